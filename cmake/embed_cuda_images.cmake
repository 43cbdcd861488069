# Writes the C source that holds the compiled CUDA kernels. Run with -P by cmake/cuda.cmake.
#   FATBIN, PTX    what nvcc made
#   LOWERED_PTX    the PTX for older drivers
#   IMAGES         the C source

# nvcc writes the newest version of the PTX language, which only the newest drivers take, whatever the kernels use of it. What
# ours use is in 7.0 (CUDA 11.0); tests have ptxas compile this text for every architecture (ptxas.* in cmake/tests.cmake).
file(READ ${PTX} text)
string(REGEX REPLACE "\n\\.version [0-9.]+\n" "\n.version 7.0\n" lowered "${text}")
if(lowered STREQUAL text)
  message(FATAL_ERROR "${PTX} has no line with the version of its language.")
endif()
if(text MATCHES "fma\\.|\\.ftz|\\.approx")
  message(FATAL_ERROR "${PTX} has instructions that round or flush (${CMAKE_MATCH_0}): the kernels would not have the bits of the CPU's.")
endif()
file(WRITE ${LOWERED_PTX} "${lowered}")

# wavespeed_bytes(<out variable> <file>): its bytes as an initialiser
function(wavespeed_bytes out file)
  file(READ ${file} bytes HEX)
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
  string(REGEX REPLACE "(................................................................................)" "\\1\n" bytes "${bytes}")
  set(${out} "${bytes}" PARENT_SCOPE)
endfunction()
wavespeed_bytes(fatbin ${FATBIN})
wavespeed_bytes(ptx ${LOWERED_PTX})
file(WRITE ${IMAGES} "/* Made by cmake/embed_cuda_images.cmake. */
#include \"cuda/images.h\"

static _Alignas(16) const unsigned char fatbin[] = {
${fatbin}};

static const char ptx[] = {
${ptx}0x00};

const ws_cuda_images ws_cuda_images_embedded = {fatbin, ptx};
")
