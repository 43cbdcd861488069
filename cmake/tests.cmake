# Everything that ctest runs. A lane that cannot run here exits with 77 and says why; ctest reports it as skipped.
set(WAVESPEED_SKIP 77)

# wavespeed_skipped(<name> <reason>): a test that cannot run on this machine.
function(wavespeed_skipped name reason)
  add_test(NAME ${name} COMMAND ${Python_EXECUTABLE} -c "print('SKIPPED: ${reason}'); raise SystemExit(${WAVESPEED_SKIP})")
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE ${WAVESPEED_SKIP})
endfunction()

# ---- C: each tests/c/test_*.c is one program, built plain and with the address and undefined-behaviour sanitizers ---------

set(sanitizers -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g)
include(CheckCSourceCompiles)
set(CMAKE_REQUIRED_FLAGS "-fsanitize=address,undefined")
check_c_source_compiles("int main(void) { return 0; }" WAVESPEED_HAS_SANITIZERS)
unset(CMAKE_REQUIRED_FLAGS)
if(WAVESPEED_HAS_SANITIZERS)
  wavespeed_add_core(wavespeed_core_sanitized)
  target_compile_options(wavespeed_core_sanitized PUBLIC ${sanitizers})
  target_link_options(wavespeed_core_sanitized PUBLIC ${sanitizers})
else()
  wavespeed_skipped(c.sanitized "the compiler has no address and undefined-behaviour sanitizers")
endif()

# The CUDA kernels as a library for the CPU, which the tests named test_cuda_* use (tests/c/emulated_cuda).
function(wavespeed_emulated_cuda name core)
  add_library(${name} STATIC tests/c/emulated_cuda/emulated_kernels.cpp)
  target_include_directories(${name} PRIVATE tests/c/emulated_cuda src)
  target_link_libraries(${name} PUBLIC ${core})
  wavespeed_warnings(${name})
  target_compile_options(${name} PRIVATE -O2 -ffp-contract=off -Wno-unknown-pragmas)
endfunction()
if(CMAKE_CXX_COMPILER)
  wavespeed_emulated_cuda(emulated_cuda wavespeed_core)
  # A driver that uses it. Its own folder, because programs find a driver by this name.
  add_library(fake_cuda_driver SHARED tests/c/emulated_cuda/fake_driver.cpp tests/c/emulated_cuda/emulated_kernels.cpp)
  target_include_directories(fake_cuda_driver PRIVATE tests/c/emulated_cuda include src)
  wavespeed_warnings(fake_cuda_driver)
  target_compile_options(fake_cuda_driver PRIVATE -O2 -ffp-contract=off -Wno-unknown-pragmas)
  set_target_properties(fake_cuda_driver PROPERTIES
    OUTPUT_NAME cuda SOVERSION 1 LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests/fake_cuda_driver)
  if(WAVESPEED_HAS_SANITIZERS)
    wavespeed_emulated_cuda(emulated_cuda_sanitized wavespeed_core_sanitized)
  endif()
else()
  wavespeed_skipped(c.cuda "there is no C++ compiler to run the CUDA kernels on the CPU")
endif()

function(wavespeed_c_test program source core)
  add_executable(${program} ${source})
  target_compile_definitions(${program} PRIVATE WAVESPEED_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  target_include_directories(${program} PRIVATE src)
  target_link_libraries(${program} PRIVATE ${core} wavespeed_cmocka)
  if(program MATCHES "^test_cuda_")
    target_link_libraries(${program} PRIVATE emulated_cuda${ARGN})
    target_compile_definitions(${program} PRIVATE WAVESPEED_FAKE_CUDA_DRIVER="$<TARGET_FILE:fake_cuda_driver>")
    add_dependencies(${program} fake_cuda_driver)
  endif()
  wavespeed_warnings(${program})
  set_target_properties(${program} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
endfunction()

file(GLOB c_tests CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/c/test_*.c)
if(NOT TARGET wavespeed_cmocka)
  wavespeed_skipped(c "cmocka was not found; the configuration says how to get it")
  set(c_tests "")
elseif(NOT CMAKE_CXX_COMPILER)
  list(FILTER c_tests EXCLUDE REGEX "/test_cuda_[^/]*$")
endif()
foreach(source IN LISTS c_tests)
  cmake_path(GET source STEM stem)
  string(REGEX REPLACE "^test_" "" name ${stem})
  wavespeed_c_test(${stem} ${source} wavespeed_core)
  add_test(NAME c.${name} COMMAND ${stem})
  set_tests_properties(c.${name} PROPERTIES TIMEOUT 300)
  if(WAVESPEED_HAS_SANITIZERS)
    wavespeed_c_test(${stem}_sanitized ${source} wavespeed_core_sanitized _sanitized)
    add_test(NAME c.${name}.sanitized COMMAND ${stem}_sanitized)
    set_tests_properties(c.${name}.sanitized PROPERTIES TIMEOUT 600)
  endif()
endforeach()

# ---- CUDA: the PTX that older drivers are given compiles for every architecture, with all of its values in registers ----------

find_program(WAVESPEED_PTXAS ptxas PATHS /usr/local/cuda/bin ENV CUDA_HOME PATH_SUFFIXES bin DOC "CUDA's assembler, for a test of the PTX")
if(NOT WAVESPEED_CUDA_PTX)
  wavespeed_skipped(ptxas "the pack was built without its CUDA kernels")
elseif(NOT WAVESPEED_PTXAS)
  wavespeed_skipped(ptxas "ptxas is not installed")
else()
  foreach(architecture IN LISTS WAVESPEED_CUDA_ARCHITECTURES)
    add_test(NAME ptxas.sm_${architecture}
      COMMAND ${WAVESPEED_PTXAS} -arch=sm_${architecture} --warn-on-spills -Werror ${WAVESPEED_CUDA_PTX}
        -o ${PROJECT_BINARY_DIR}/tests/sm_${architecture}.cubin)
  endforeach()
endif()

# ---- Headers: each public header compiles alone, as C11 and as C++17 ----------------------------------------------------

file(GLOB headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/include/wavespeed/*.h)
set(header_sources "")
foreach(header IN LISTS headers)
  cmake_path(GET header STEM stem)
  foreach(suffix IN ITEMS c cpp)
    if(suffix STREQUAL "c" OR CMAKE_CXX_COMPILER)
      set(source ${PROJECT_BINARY_DIR}/tests/headers/${stem}.${suffix})
      file(CONFIGURE OUTPUT ${source} CONTENT "#include \"wavespeed/${stem}.h\"\n" @ONLY)
      list(APPEND header_sources ${source})
    endif()
  endforeach()
endforeach()
add_library(public_headers OBJECT ${header_sources})
target_include_directories(public_headers PRIVATE include)
wavespeed_warnings(public_headers)

# ---- clang: the C sources without a warning under the second compiler ---------------------------------------------------

find_program(WAVESPEED_CLANG NAMES clang clang-19 clang-18 clang-17 clang-16 clang-15 clang-14 DOC "clang, for its warnings")
if(WAVESPEED_CLANG)
  get_target_property(cjson_includes wavespeed_cjson INTERFACE_INCLUDE_DIRECTORIES)
  set(folders "")
  foreach(folder IN LISTS cjson_includes Python_INCLUDE_DIRS)
    list(APPEND folders -isystem ${folder})
  endforeach()
  set(clang ${WAVESPEED_CLANG} -std=c11 -fsyntax-only -Werror ${WAVESPEED_C_WARNINGS} -Iinclude -Isrc ${folders})
  add_test(NAME clang_warnings.core COMMAND ${clang} -Wpedantic ${WAVESPEED_CORE_SOURCES} ${WAVESPEED_CPU_SOURCES}
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  foreach(source IN LISTS WAVESPEED_LEVEL_SOURCES)
    cmake_path(GET source STEM stem)
    get_source_file_property(options ${source} COMPILE_OPTIONS)
    add_test(NAME clang_warnings.${stem} COMMAND ${clang} -Wpedantic ${options} ${source} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  endforeach()
  add_test(NAME clang_warnings.python COMMAND ${clang} -DPy_LIMITED_API=0x030A0000 ${WAVESPEED_PYTHON_SOURCES}
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
else()
  wavespeed_skipped(clang_warnings "clang is not installed")
endif()

# ---- Python: the lanes of tools/run_lane.py ------------------------------------------------------------------------------

# wavespeed_lane(<name> <timeout in seconds>)
function(wavespeed_lane name timeout)
  add_test(NAME ${name} COMMAND ${Python_EXECUTABLE} ${PROJECT_SOURCE_DIR}/tools/run_lane.py ${name}
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${timeout} SKIP_RETURN_CODE ${WAVESPEED_SKIP})
endfunction()
wavespeed_lane(style 300)
wavespeed_lane(python 1200)
wavespeed_lane(comfyui 1800)
