"""Makes the sandbox's base models.

    python -m alignlab.sandbox.pretrain --world knows_all --out DIR

`corpus` writes the text, `tokenizer` learns its vocabulary, `train` trains the model and logs.
"""
