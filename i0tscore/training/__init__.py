"""Fine-tuning a CLIP on long captions (I0T stage 1) and training the normalization of I0T_async."""
