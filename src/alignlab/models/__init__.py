"""Language models: loading, chat encoding, the packed forward, log-probabilities, adapters.

`load` and `save` are in `load.py`; any decoder in Hugging Face format works unchanged.
To serve a new kind of attention in the packed forward, extend `attention.py`. The probe in
`scorer.py` finds models that the packed forward does not serve exactly; they run on padded batches.
"""

import logging

# Imported by peft, it warns on some CPUs that a compiled kernel could not be fetched from a hub.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
