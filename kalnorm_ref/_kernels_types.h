/* Included by _kernels.h for each instruction set: its loops for each type of number. */

#define REAL float
#define LANES (BYTES / 4)
#include "_kernels_convolution.h"
#include "_kernels_statistics.h"
#undef REAL
#undef LANES

#define REAL double
#define LANES (BYTES / 8)
#include "_kernels_convolution.h"
#undef REAL
#undef LANES

#undef SET
#undef BYTES
#undef REGISTERS
