"""``ImageBackbone``: a backbone that also takes images as users have them, and not only as batches of pixels."""

from typing import Any

import torch
from torch import Tensor

from headway.backbones.embedding import FeatureKind, check_embedding, embed
from headway.data.dataset.decode_stream import decode_every_image
from headway.data.open import open_source
from headway.data.sources.array_like import images_of
from headway.protocol import Backbone


class ImageBackbone(Backbone):
    """The base class of the backbones that ``build_backbone`` and ``load_backbone`` return.

    Its ``embed`` needs the decoders. That is why it is not part of ``Backbone``, which lies below them.
    """

    def embed(self, images: Any, features: FeatureKind = "pooled", layer: int | None = None) -> Tensor:
        """Features of images, as ``headway embed`` writes them.

        The images are decoded and resized to ``image_size`` as that verb does it, so files give the same bits; pixels
        in memory give the bits that a file of these pixels gives.

        Args:
            images: A path (a file, a folder, a table, tars), or a source; a list of paths, of Pillow images, of arrays
                (H W or H W C) or of tensors (H W or C H W), of any sizes; or one array or tensor N H W C, N C H W or
                N H W. Integers have the range of their files (uint8: 0..255), and floats lie in [0, 1].
            features: One vector per image (pooled), per class token and register (prefix), or per patch (patches).
            layer: Block whose output is returned; None: the backbone's output, after its last norm.

        Returns:
            N D pooled, N P D prefix or N N' D patches, float32, on the CPU.

        Raises:
            HeadwayError: The images are of another kind or range, one of them cannot be read, or the backbone has no
                such features.
        """
        check_embedding(self, features, layer)
        source = open_source(images_of(images, "images"), backbone=self)
        hint = "leave it out, since every image gets its features, or use headway.embed, which skips it"
        chunks = decode_every_image(source, self.image_size, hint)
        return torch.cat([embed(self, chunk, self.image_size, features, layer) for chunk in chunks])  # N *
