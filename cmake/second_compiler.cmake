# Tests with clang: no warning under a second compiler either, and what builds for Windows. clang is that of the Python package
# ziglang, which the set-up installs and which has the same version everywhere; an installed one where the package is not there.

execute_process(
  COMMAND ${Python_EXECUTABLE} -c "
import importlib.util
package = importlib.util.find_spec('ziglang')
print(package.submodule_search_locations[0] if package else '', end='')
" OUTPUT_VARIABLE WAVESPEED_ZIGLANG_DIR ERROR_QUIET)
set(zig ${Python_EXECUTABLE} -m ziglang)

# ---- Warnings -----------------------------------------------------------------------------------------------------------

if(WAVESPEED_ZIGLANG_DIR)
  # Without the driver of zig, which always wants to write an object: the system's headers, and clang's own from zig.
  set(clang ${zig} clang --target=${CMAKE_SYSTEM_PROCESSOR}-linux-gnu -isystem ${WAVESPEED_ZIGLANG_DIR}/lib/include)
else()
  find_program(WAVESPEED_CLANG NAMES clang clang-19 clang-18 clang-17 clang-16 clang-15 clang-14 DOC "clang, for its warnings")
  set(clang ${WAVESPEED_CLANG})
endif()

# wavespeed_clang_warnings(<name> <arguments and sources>...)
function(wavespeed_clang_warnings name)
  add_test(NAME clang_warnings.${name} COMMAND ${clang} -fsyntax-only -Werror -Iinclude -Isrc ${ARGN}
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
endfunction()

get_target_property(cjson_includes wavespeed_cjson INTERFACE_INCLUDE_DIRECTORIES)
set(cmocka_includes "")
if(TARGET wavespeed_cmocka)
  get_target_property(cmocka_includes wavespeed_cmocka INTERFACE_INCLUDE_DIRECTORIES)
endif()
set(folders "")
foreach(folder IN LISTS cjson_includes cmocka_includes Python_INCLUDE_DIRS)
  # The system's own folder is searched anyway, and its place among the others matters.
  if(NOT folder IN_LIST CMAKE_C_IMPLICIT_INCLUDE_DIRECTORIES)
    list(APPEND folders -isystem ${folder})
  endif()
endforeach()
if(clang)
  set(c -std=c11 ${WAVESPEED_C_WARNINGS} ${folders})
  wavespeed_clang_warnings(core ${c} -Wpedantic ${WAVESPEED_CORE_SOURCES} ${WAVESPEED_CPU_SOURCES} ${WAVESPEED_CUDA_SOURCES})
  foreach(source IN LISTS WAVESPEED_LEVEL_SOURCES)
    cmake_path(GET source STEM stem)
    get_source_file_property(options ${source} COMPILE_OPTIONS)
    wavespeed_clang_warnings(${stem} ${c} -Wpedantic ${options} ${source})
  endforeach()
  wavespeed_clang_warnings(python ${c} -DPy_LIMITED_API=0x030A0000 ${WAVESPEED_PYTHON_SOURCES})
  if(TARGET torch_shim)
    wavespeed_clang_warnings(torch --driver-mode=g++ -std=c++17 ${WAVESPEED_CXX_WARNINGS} -Wpedantic
      -DTORCH_TARGET_VERSION=0x020a000000000000ULL -isystem ${WAVESPEED_TORCH_DIR}/include ${WAVESPEED_TORCH_SOURCES})
  endif()
  if(c_tests)
    wavespeed_clang_warnings(tests ${c} -Wpedantic -Itests/c
      -DWAVESPEED_SOURCE_DIR="" -DWAVESPEED_FAKE_CUDA_DRIVER="" ${c_tests})
  endif()
else()
  wavespeed_skipped(clang_warnings "clang is not installed, and neither is the Python package ziglang")
endif()

# ---- Windows ------------------------------------------------------------------------------------------------------------

# src/core, src/cpu and src/cuda compile and link for Windows; nothing has run there. cJSON is a DLL of which only the names exist.
set(windows_dir ${PROJECT_BINARY_DIR}/tests/windows)
if(WAVESPEED_ZIGLANG_DIR)
  list(GET cjson_includes 0 cjson_include)
  configure_file(${cjson_include}/cjson/cJSON.h ${windows_dir}/include/cjson/cJSON.h COPYONLY)
  file(STRINGS ${cjson_include}/cjson/cJSON.h names REGEX "^CJSON_PUBLIC")
  list(TRANSFORM names REPLACE "^CJSON_PUBLIC\\([^)]*\\) *([A-Za-z0-9_]+)\\(.*" "\\1")
  list(JOIN names "\n" names)
  file(WRITE ${windows_dir}/cjson.def "LIBRARY cjson.dll\nEXPORTS\n${names}\n")
  execute_process(COMMAND ${zig} dlltool -m i386:x86-64 -d ${windows_dir}/cjson.def -l ${windows_dir}/libcjson.a
    RESULT_VARIABLE dlltool_result OUTPUT_QUIET ERROR_QUIET)
endif()
if(NOT WAVESPEED_ZIGLANG_DIR)
  wavespeed_skipped(windows "the Python package ziglang, a compiler for Windows, is not installed")
elseif(NOT dlltool_result EQUAL 0)
  wavespeed_skipped(windows "this version of ziglang makes no import library for Windows")
else()
  # For x86-64 whatever this machine is, and all levels with the same options: it is linked, not run.
  add_test(NAME windows
    COMMAND ${zig} cc -target x86_64-windows-gnu -shared -o ${windows_dir}/wavespeed.dll
      -std=c11 -O2 -g0 -Werror ${WAVESPEED_C_WARNINGS} -Wpedantic -mavx2 -mf16c -mavx512f
      -Iinclude -Isrc -isystem ${windows_dir}/include
      ${WAVESPEED_CORE_SOURCES} ${WAVESPEED_CPU_SOURCES} src/cpu/kernels_avx2.c src/cpu/kernels_avx512.c ${WAVESPEED_CUDA_SOURCES}
      ${windows_dir}/libcjson.a
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  # The first time, zig compiles the C library for Windows, which takes a minute or two.
  set_tests_properties(windows PROPERTIES TIMEOUT 900
    ENVIRONMENT "ZIG_GLOBAL_CACHE_DIR=${windows_dir}/cache;ZIG_LOCAL_CACHE_DIR=${windows_dir}/cache")
endif()
