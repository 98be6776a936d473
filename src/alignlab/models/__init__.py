"""Language models: loading, chat encoding, the packed forward, log-probabilities, adapters.

`load` and `save` are in `load.py`; any decoder in Hugging Face format works unchanged.
To serve a new kind of attention in the packed forward, extend `attention.py`; what it cannot
serve exactly is found by the probe in `scorer.py` and runs as plain per-sequence batches.
"""
