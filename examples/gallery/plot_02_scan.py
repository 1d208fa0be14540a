"""
Scan a network and read the plan
================================

Which operations of a network mix all pixels, and on which window would they run?
"""

import matplotlib.pyplot as plt

import glocal

network = glocal.load("nafnet-motion-blur")
plan = glocal.scan(network)
print(plan)

# %%
# A row is one operation: the module that runs it, the line of code, the size of its map for a training
# crop, the window on that map, and how it is converted. *global* in the last column would mean that an
# operation stays as it is, with the reason.
#
# A window of 96 pixels is 96 pixels at full resolution and 12 at an eighth of it: every layer sees the
# same part of the photograph.

rows = [row for row in plan.rows if row.window]
figure, ax = plt.subplots(figsize=(7, 3.2))
ax.bar(range(len(rows)), [row.feature[0] for row in rows], label="map of a training crop")
ax.bar(range(len(rows)), [row.window[0] for row in rows], width=0.4, label="window")
ax.set_xticks(range(len(rows)), [row.path for row in rows], rotation=30, ha="right", fontsize=8)
ax.set_ylabel("pixels of the map")
ax.legend(frameon=False)

# %%
# The plan of a converted network is ``glocal.plan_of(local)``. Both can be stored as JSON.

assert glocal.Plan.from_json(plan.to_json()) == plan
