"""Backbones: our ViT and any timm model, built by name, saved to files and loaded from them."""
