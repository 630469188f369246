"""GCViT."""
