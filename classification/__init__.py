"""Classification on any timm model: pretrains the backbones, and tunes converted ones."""
