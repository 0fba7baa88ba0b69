"""What the test inputs call the benchmark's detectors, and what they are called here."""

PYSLOWFAST = {
    "C2D_8x8_R50": "c2d_r50_8x8",
    "C2D_NLN_8x8_R50": "c2d_nln_r50_8x8",
    "I3D_8x8_R50": "i3d_r50_8x8",
    "I3D_NLN_8x8_R50": "i3d_nln_r50_8x8",
    "SLOWONLY_8x8_R50": "slow_r50_8x8",
    "SLOWONLY_4x16_R50": "slow_r50_4x16",
    "SLOWFAST_8x8_R50": "slowfast_r50_8x8",
    "SLOWFAST_4x16_R50": "slowfast_r50_4x16",
    "MVIT_B_16x4": "mvit_v1_b_16x4",
    "MVITv2_S_16x4": "mvit_v2_s_16x4",
    "X3D_S": "x3d_s_13x6",
    "X3D_L": "x3d_l_16x5",
    "SLOW_8x8_R50": "slow_r50_8x8",
    "SLOWFAST_32x2_R101_50_50": "slowfast_r101_32x2",
}
