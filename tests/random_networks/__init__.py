"""Random networks from a grammar of global operations, checked against slow local references.

Each spelling has two forms: the ordinary one, as people write it, and a slow one, which applies
the law of windows pixel by pixel and shares no code with a converter.

- `statistics`, `contacts`: a gate is a statistic of the map, a small perceptron and a contact,
  where the statistic meets the pixels again.
- `norms`, `blocks`, `mixing`: whole blocks.
- `parts`, `networks`: a random network from one seed.
- `judge`: converts it and compares.
- `tables`, `page`, `run.py`: many seeds, the counts, and the page of the documentation.
"""
