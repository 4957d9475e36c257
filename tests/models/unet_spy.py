"""What a UNet is given on the inside."""


class UNetSpy:
    """Keeps what the first convolution of a UNet and its blocks are given."""

    def __init__(self, unet):
        self.embeddings = []
        unet.conv_in.register_forward_pre_hook(lambda module, args: setattr(self, "inputs", args[0]))
        for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks):
            for resnet in block.resnets:
                resnet.register_forward_pre_hook(lambda module, args: self.embeddings.append(args[1]))
