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

function(wavespeed_c_test program source core)
  add_executable(${program} ${source})
  target_compile_definitions(${program} PRIVATE WAVESPEED_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  target_include_directories(${program} PRIVATE src)
  target_link_libraries(${program} PRIVATE ${core} wavespeed_cmocka)
  wavespeed_warnings(${program})
  set_target_properties(${program} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
endfunction()

file(GLOB c_tests CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/c/test_*.c)
if(NOT TARGET wavespeed_cmocka)
  wavespeed_skipped(c "cmocka was not found; the configuration says how to get it")
  set(c_tests "")
endif()
foreach(source IN LISTS c_tests)
  cmake_path(GET source STEM stem)
  string(REGEX REPLACE "^test_" "" name ${stem})
  wavespeed_c_test(${stem} ${source} wavespeed_core)
  add_test(NAME c.${name} COMMAND ${stem})
  set_tests_properties(c.${name} PROPERTIES TIMEOUT 300)
  if(WAVESPEED_HAS_SANITIZERS)
    wavespeed_c_test(${stem}_sanitized ${source} wavespeed_core_sanitized)
    add_test(NAME c.${name}.sanitized COMMAND ${stem}_sanitized)
    set_tests_properties(c.${name}.sanitized PROPERTIES TIMEOUT 600)
  endif()
endforeach()

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
