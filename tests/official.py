"""What the official implementation is known to give."""

# The parameters of each variant, with 1000 classes.
PARAMETERS = {
    "xxtiny": 11_995_428,
    "xtiny": 19_981_294,
    "tiny": 28_221_974,
    "tiny2": 34_535_654,
    "small": 51_092_173,
    "small2": 68_615_197,
    "base": 90_320_836,
    "large": 202_075_570,
    "large_21k": 202_075_570,
    "large_21k_384": 202_860_610,
    "large_21k_512": 203_795_362,
}
