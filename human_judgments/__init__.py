"""Agreement of metrics with human ratings: one script per rating set, ``python -m human_judgments.<set>``.

Each script reads its set, scores it, measures agreement and writes a report. ``docs/evidence/rating-sets.md``
describes the sets and the measures. ``studies`` shares the command line and the reports.
"""
