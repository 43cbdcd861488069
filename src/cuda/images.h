/* The compiled CUDA kernels, embedded by cmake/cuda.cmake. Private to src/cuda. */
#ifndef WAVESPEED_CUDA_IMAGES_H
#define WAVESPEED_CUDA_IMAGES_H

/* For the driver's cuModuleLoadData; NULL where the pack was built without nvcc. */
typedef struct ws_cuda_images {
    const unsigned char *fatbin; /* for the GPUs that the toolkit knew */
    const char *ptx;             /* for the driver to compile, where it refuses the fatbin */
} ws_cuda_images;

extern const ws_cuda_images ws_cuda_images_embedded;

#endif
