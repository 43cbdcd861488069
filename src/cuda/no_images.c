/* Compiled where the pack is built without nvcc. */
#include "cuda/images.h"

#include <stddef.h>

const ws_cuda_images ws_cuda_images_embedded = {NULL, NULL};
