# The native parts. A new source file is added to one of the four lists.
set(WAVESPEED_CORE_SOURCES
  src/core/architecture.c
  src/core/architecture_stage.c
  src/core/compile_options.c
  src/core/compile_allowed.c
  src/core/compile_request.c
  src/core/json.c
  src/core/node_schema.c
  src/core/options.c
  src/core/plan.c
  src/core/policy.c
  src/core/replay.c
  src/core/session.c
  src/core/session_decision.c
  src/core/status.c
  src/core/trace.c)
set(WAVESPEED_CPU_SOURCES
  src/cpu/kernels.c
  src/cpu/kernels_scalar.c
  src/cpu/levels.c)
set(WAVESPEED_PYTHON_SOURCES
  src/python/compile_request.c
  src/python/cuda.c
  src/python/entries.c
  src/python/entries_reuse.c
  src/python/entries_store.c
  src/python/errors.c
  src/python/hook_object.c
  src/python/hooks.c
  src/python/module.c
  src/python/nodes.c
  src/python/plan.c
  src/python/session_object.c
  src/python/streams.c
  src/python/tensors.c
  src/python/torch_shim.c
  src/python/trace.c)
set(WAVESPEED_TORCH_SOURCES
  src/torch/shim.cpp)

# The same bits on every machine and with every compiler: no contraction to fused multiply-add, and never -march=native.
set(WAVESPEED_CPU_OPTIONS -O3 -ffp-contract=off -fno-math-errno)
set_source_files_properties(${WAVESPEED_CPU_SOURCES} PROPERTIES COMPILE_OPTIONS "${WAVESPEED_CPU_OPTIONS}")

# The levels of the vector units: what this processor architecture has, each compiled for its own instructions and chosen at
# run time (src/cpu/levels.c).
set(WAVESPEED_LEVEL_SOURCES "")
function(wavespeed_level source)
  set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${WAVESPEED_CPU_OPTIONS};${ARGN}")
  set(WAVESPEED_LEVEL_SOURCES ${WAVESPEED_LEVEL_SOURCES} ${source} PARENT_SCOPE)
endfunction()
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  wavespeed_level(src/cpu/kernels_avx2.c -mavx2 -mf16c)
  wavespeed_level(src/cpu/kernels_avx512.c -mavx512f)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
  wavespeed_level(src/cpu/kernels_neon.c)
endif()

include(cuda) # WAVESPEED_CUDA_SOURCES

# wavespeed_core: everything that knows neither Python nor torch. wavespeed_add_core() is also used for the sanitized copy.
function(wavespeed_add_core name)
  add_library(${name} STATIC ${WAVESPEED_CORE_SOURCES} ${WAVESPEED_CPU_SOURCES} ${WAVESPEED_LEVEL_SOURCES} ${WAVESPEED_CUDA_SOURCES})
  if(TARGET wavespeed_cuda_images)
    add_dependencies(${name} wavespeed_cuda_images)
  endif()
  target_include_directories(${name} PUBLIC include PRIVATE src)
  target_link_libraries(${name} PUBLIC wavespeed_cjson m ${CMAKE_DL_LIBS})
  wavespeed_warnings(${name})
endfunction()
wavespeed_add_core(wavespeed_core)

# _core: the Python extension, one binary for Python 3.10 and newer. It links no libtorch, so it loads without torch.
add_library(_core MODULE ${WAVESPEED_PYTHON_SOURCES})
target_compile_definitions(_core PRIVATE Py_LIMITED_API=0x030A0000)
target_link_libraries(_core PRIVATE wavespeed_core wavespeed_python ${CMAKE_DL_LIBS})
wavespeed_warnings(_core NO_PEDANTIC)
# Whatever is linked in statically stays inside: PyInit__core is the only name that others see.
target_link_options(_core PRIVATE
  -Wl,-z,now -Wl,-z,relro -Wl,-z,noexecstack
  -Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/extension.map)
set_target_properties(_core PROPERTIES
  PREFIX "" SUFFIX ".abi3.so"
  LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/extension.map
  LIBRARY_OUTPUT_DIRECTORY ${WAVESPEED_PACKAGE_DIR}
  BUILD_WITH_INSTALL_RPATH ON # no path of the build tree in the binary
  INSTALL_RPATH "$ORIGIN")
if(WAVESPEED_CJSON_RUNTIME)
  # cJSON came from the build tree: keep it beside the extension, so that the folder can be moved.
  add_custom_command(TARGET _core POST_BUILD
    COMMAND ${CMAKE_COMMAND} -E copy ${WAVESPEED_CJSON_RUNTIME} ${WAVESPEED_PACKAGE_DIR}/libcjson.so.1 VERBATIM)
endif()

# torch_shim: registers torch.ops.wavespeed.* on libtorch's stable ABI. Without it the pack uses torch's own operations.
if(NOT CMAKE_CXX_COMPILER)
  message(STATUS "WaveSpeed: no C++ compiler, so the pack is built without its fused torch operators (slower, same results).")
elseif(NOT WAVESPEED_TORCH_DIR)
  message(STATUS "WaveSpeed: ${Python_EXECUTABLE} has no torch 2.10 or newer, so the pack is built without its fused torch operators "
    "(slower, same results). Name ComfyUI's Python with -DPython_EXECUTABLE=... to build them.")
else()
  add_library(torch_shim MODULE ${WAVESPEED_TORCH_SOURCES})
  # Only what libtorch 2.10 has is used, so one binary serves 2.10 and newer.
  target_compile_definitions(torch_shim PRIVATE TORCH_TARGET_VERSION=0x020a000000000000ULL)
  target_include_directories(torch_shim PRIVATE include)
  target_include_directories(torch_shim SYSTEM PRIVATE ${WAVESPEED_TORCH_DIR}/include)
  # STD_TORCH_CHECK puts __FILE__ into messages; users shall not see the builder's folders.
  target_compile_options(torch_shim PRIVATE
    -fmacro-prefix-map=${PROJECT_SOURCE_DIR}/= -fmacro-prefix-map=${WAVESPEED_TORCH_DIR}/include/=)
  # By full path, and found by its soname at run time, since torch is in the process already.
  target_link_libraries(torch_shim PRIVATE ${WAVESPEED_TORCH_DIR}/lib/libtorch_cpu.so)
  target_link_options(torch_shim PRIVATE -Wl,-z,now -Wl,-z,relro -Wl,-z,noexecstack)
  wavespeed_warnings(torch_shim)
  set_target_properties(torch_shim PROPERTIES
    PREFIX "_" SUFFIX ".so"
    LIBRARY_OUTPUT_DIRECTORY ${WAVESPEED_PACKAGE_DIR}
    SKIP_BUILD_RPATH ON)
endif()
