"""From a pretrained backbone to a classifier: features, heads, fine-tuning, export."""
