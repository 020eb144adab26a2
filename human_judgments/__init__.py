"""Agreement of metrics with human ratings: one script a data set, ``python -m human_judgments.<set>``.

Each script reads its set, scores it, measures agreement and writes a report; ``docs/human-judgments.md``
says where the data come from and how the figures are to be read. ``standardizers``, ``gap`` and
``gap_pairs`` study what removing the modality gap does (``docs/tasks.md``).
"""
