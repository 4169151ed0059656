"""Detection data: one form, :class:`~.records.Annotations`, for COCO, VOC, KITTI and a generated set."""
