"""One optimizer step: Fabric, optimizers, memory."""
