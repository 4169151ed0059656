"""Detection: Faster R-CNN on any timm backbone, on COCO-, VOC- and KITTI-style data; run it from a checkout."""
