"""Detection data: one format, :class:`~.records.Annotations`, for COCO, VOC, KITTI and a generated set."""
