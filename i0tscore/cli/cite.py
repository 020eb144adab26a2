"""What to cite, as BibTeX."""

BIBTEX = """\
@inproceedings{an-etal-2025-i0t,
  title     = {{I0T}: Embedding Standardization Method Towards Zero Modality Gap},
  author    = {An, Na Min and Kim, Eunki and Thorne, James and Shim, Hyunjung},
  booktitle = {Proceedings of the 63rd Annual Meeting of the Association for Computational Linguistics
               (Volume 1: Long Papers)},
  year      = {2025},
  pages     = {27182--27199},
  url       = {https://aclanthology.org/2025.acl-long.1319/},
  note      = {arXiv:2412.14384}
}

@inproceedings{hessel-etal-2021-clipscore,
  title     = {{CLIPScore}: A Reference-free Evaluation Metric for Image Captioning},
  author    = {Hessel, Jack and Holtzman, Ari and Forbes, Maxwell and Le Bras, Ronan and Choi, Yejin},
  booktitle = {Proceedings of the 2021 Conference on Empirical Methods in Natural Language Processing},
  year      = {2021},
  pages     = {7514--7528},
  url       = {https://aclanthology.org/2021.emnlp-main.595/},
  note      = {arXiv:2104.08718}
}

@inproceedings{radford-etal-2021-clip,
  title     = {Learning Transferable Visual Models From Natural Language Supervision},
  author    = {Radford, Alec and Kim, Jong Wook and Hallacy, Chris and Ramesh, Aditya and Goh, Gabriel
               and Agarwal, Sandhini and Sastry, Girish and Askell, Amanda and Mishkin, Pamela
               and Clark, Jack and Krueger, Gretchen and Sutskever, Ilya},
  booktitle = {Proceedings of the 38th International Conference on Machine Learning},
  year      = {2021},
  pages     = {8748--8763},
  url       = {https://proceedings.mlr.press/v139/radford21a.html},
  note      = {arXiv:2103.00020}
}

@inproceedings{mistretta-etal-2025-cross,
  title     = {Cross the Gap: Exposing the Intra-modal Misalignment in {CLIP} via Modality Inversion},
  author    = {Mistretta, Marco and Baldrati, Alberto and Agnolucci, Lorenzo and Bertini, Marco
               and Bagdanov, Andrew D.},
  booktitle = {The Thirteenth International Conference on Learning Representations},
  year      = {2025},
  url       = {https://openreview.net/forum?id=VVVfuIcmKR},
  note      = {arXiv:2502.04263}
}
"""
