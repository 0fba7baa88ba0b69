"""Transforms of pixels and boxes: resize and crop, augmentation, camera roll, affine maps."""
