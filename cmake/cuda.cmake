# The CUDA kernels (docs/kernels.md): compiled by nvcc where it is installed and embedded in the extension, for every GPU that the
# toolkit knows and as PTX for others. Users need neither nvcc nor the toolkit; CMake's language CUDA is not used, because it
# links the CUDA runtime. Variables:
#   WAVESPEED_CUDA_SOURCES   C sources of the executor, with the embedded kernels or their absence
#   WAVESPEED_CUDA_PTX       the PTX for older drivers, or empty where the pack is built without CUDA kernels
#   WAVESPEED_CUDA_ARCHITECTURES   what the toolkit knows, such as 75 and 120
set(WAVESPEED_CUDA_SOURCES
  src/cuda/driver.c
  src/cuda/executor.c
  src/cuda/launch.c
  src/cuda/self_check.c)
set(WAVESPEED_CUDA_PTX "")

find_program(WAVESPEED_NVCC nvcc PATHS /usr/local/cuda/bin ENV CUDA_HOME PATH_SUFFIXES bin DOC "CUDA's compiler, for the GPU kernels")
set(folder ${PROJECT_BINARY_DIR}/cuda)
file(MAKE_DIRECTORY ${folder})
set(kernels ${PROJECT_SOURCE_DIR}/src/cuda/kernels.cu)
# -fmad=false: the bits of the CPU's kernels, whose products are not fused with additions.
set(nvcc ${WAVESPEED_NVCC} -std=c++17 -fmad=false -I${PROJECT_SOURCE_DIR}/include -I${PROJECT_SOURCE_DIR}/src ${kernels})
set(targets "")
set(problem "nvcc was not found")
if(WAVESPEED_NVCC)
  set(problem "${WAVESPEED_NVCC} does not tell what GPUs it knows")
  execute_process(COMMAND ${WAVESPEED_NVCC} --list-gpu-code OUTPUT_VARIABLE codes ERROR_QUIET)
  string(REGEX MATCHALL "[0-9]+" WAVESPEED_CUDA_ARCHITECTURES "${codes}")
  list(SORT WAVESPEED_CUDA_ARCHITECTURES COMPARE NATURAL)
  foreach(architecture IN LISTS WAVESPEED_CUDA_ARCHITECTURES)
    list(APPEND targets -gencode arch=compute_${architecture},code=sm_${architecture})
  endforeach()
endif()
if(targets)
  # Compiled once now, so that an nvcc that does not get on with the host's compiler does not end the build. The oldest
  # architecture's PTX serves all GPUs that came later.
  list(GET WAVESPEED_CUDA_ARCHITECTURES 0 oldest)
  execute_process(COMMAND ${nvcc} -ptx -arch=compute_${oldest} -o ${folder}/trial.ptx
    RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(result EQUAL 0)
    set(problem "")
  else()
    string(REGEX REPLACE "\n.*" "" problem "${WAVESPEED_NVCC} does not compile the kernels (${output}")
    string(APPEND problem ")")
  endif()
endif()

if(problem)
  message(STATUS "WaveSpeed: ${problem}, so the pack is built without its CUDA kernels.")
  list(APPEND WAVESPEED_CUDA_SOURCES src/cuda/no_images.c)
else()
  message(STATUS "WaveSpeed: CUDA kernels for ${WAVESPEED_CUDA_ARCHITECTURES} by ${WAVESPEED_NVCC}")
  set(WAVESPEED_CUDA_PTX ${folder}/kernels.ptx)
  add_custom_command(OUTPUT ${folder}/images.c ${WAVESPEED_CUDA_PTX}
    COMMAND ${nvcc} -fatbin --compress-mode=size ${targets} -o ${folder}/kernels.fatbin
    COMMAND ${nvcc} -ptx -arch=compute_${oldest} -o ${folder}/kernels.ptx.new
    COMMAND ${CMAKE_COMMAND} -DFATBIN=${folder}/kernels.fatbin -DPTX=${folder}/kernels.ptx.new -DLOWERED_PTX=${WAVESPEED_CUDA_PTX}
      -DIMAGES=${folder}/images.c -P ${PROJECT_SOURCE_DIR}/cmake/embed_cuda_images.cmake
    DEPENDS ${kernels} src/cuda/operands.h include/wavespeed/launch.h include/wavespeed/kernels.h cmake/embed_cuda_images.cmake
    COMMENT "Compiling the CUDA kernels for ${WAVESPEED_CUDA_ARCHITECTURES}" VERBATIM)
  add_custom_target(wavespeed_cuda_images DEPENDS ${folder}/images.c)
  list(APPEND WAVESPEED_CUDA_SOURCES ${folder}/images.c)
endif()
