"""Networks that are kept: our ViT and any timm model, by name, in and out of files."""
