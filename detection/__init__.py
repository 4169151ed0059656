"""Detection: Faster R-CNN on any timm backbone, on COCO-, VOC- and KITTI-style data; run from a checkout."""
