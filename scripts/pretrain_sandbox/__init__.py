"""Makes the sandbox's base models.

    python -m scripts.pretrain_sandbox --world knows_all --out DIR

`corpus` writes the text, `tokenizer` learns its vocabulary, `train` trains the model and logs.
"""
