"""The local web page and its API: what `glocal serve` runs.

`app` makes the application, `routes` and `pictures` answer requests, `service` holds what they
share, `queue` keeps the jobs, `supervisor` runs a `worker` for each device, and `tasks` does the
jobs with the functions that the command line calls. Importing this room imports no torch.
"""
