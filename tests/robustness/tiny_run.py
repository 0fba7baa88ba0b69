"""A run so small that it learns nothing."""

TINY = [
    *("--experiment", "ava2microg", "adaptation=source_only", "training.epochs=3", "training.batch_size=4"),
    *("evaluation.batch_size=4", "data.image_size=32", "model.num_frames=2", "synthetic.train_clips=8"),
    *("synthetic.val_clips=2", "synthetic.test_clips=4", "synthetic.workers=0", "trainer.accelerator=cpu"),
]
