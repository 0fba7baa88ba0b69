"""Every change of pixels and boxes: the view taken on decoding, augmentation, camera roll, affine maps."""
