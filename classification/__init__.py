"""Classification with any timm model: pretraining of the backbones, and fine-tuning of converted ones."""
