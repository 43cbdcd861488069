# What the build needs from outside. Each library is looked for in three places: the system, its authors' release (pinned by
# its SHA-256), and the distribution's package. Targets:
#   wavespeed_python    Python's headers
#   wavespeed_cjson     cJSON, used as <cjson/cJSON.h>
#   wavespeed_cmocka    only for the tests; absent when it cannot be had, and the C tests are then reported as skipped
# Variables:
#   WAVESPEED_CJSON_RUNTIME   cJSON's shared library when it lies in the build tree, else empty
#   WAVESPEED_TORCH_DIR       the torch package (2.10 or newer) of Python_EXECUTABLE, else empty
include(distribution_package)

set(WAVESPEED_CJSON_URL https://github.com/DaveGamble/cJSON/archive/refs/tags/v1.7.18.tar.gz)
set(WAVESPEED_CJSON_SHA256 3aa806844a03442c00769b83e99970be70fbef03735ff898f4811dd03b9f5ee5)
set(WAVESPEED_CMOCKA_URL https://cmocka.org/files/1.1/cmocka-1.1.7.tar.xz)
set(WAVESPEED_CMOCKA_SHA256 810570eb0b8d64804331f82b29ff47c790ce9cd6b163e98d47a4807047ecad82)

# wavespeed_download(<out variable> <name> <url> <sha256>): the unpacked release, or empty. Kept in the build tree.
# file(DOWNLOAD) checks the hash only at the price of ending the configuration when there is no network; so it is checked here.
function(wavespeed_download out name url sha256)
  set(${out} "" PARENT_SCOPE)
  set(folder ${PROJECT_BINARY_DIR}/downloads)
  cmake_path(GET url FILENAME file)
  set(archive ${folder}/${name}-${file})
  if(NOT EXISTS ${archive})
    message(STATUS "Downloading ${url} ...")
    file(DOWNLOAD ${url} ${archive}.part STATUS status TIMEOUT 20 INACTIVITY_TIMEOUT 5)
    list(GET status 0 code)
    if(NOT code EQUAL 0)
      list(GET status 1 problem)
      message(STATUS "  not available: ${problem}")
      file(REMOVE ${archive}.part)
      return()
    endif()
    file(RENAME ${archive}.part ${archive})
  endif()
  file(SHA256 ${archive} actual)
  if(NOT actual STREQUAL sha256)
    message(STATUS "  not used: ${archive} has SHA-256 ${actual} and not the pinned ${sha256}")
    file(REMOVE ${archive})
    return()
  endif()
  file(ARCHIVE_EXTRACT INPUT ${archive} DESTINATION ${folder}/${name})
  file(GLOB release LIST_DIRECTORIES true ${folder}/${name}/*)
  set(${out} ${release} PARENT_SCOPE)
endfunction()

# wavespeed_shared_library(<target> <header> <library> [<prefix>]): an imported target when both are found, in the system or,
# with a prefix, only there.
function(wavespeed_shared_library target header library)
  set(where "")
  if(ARGC GREATER 3)
    set(where NO_DEFAULT_PATH PATHS ${ARGV3} PATH_SUFFIXES include lib lib/${CMAKE_C_LIBRARY_ARCHITECTURE})
  endif()
  find_path(${target}_INCLUDE_DIR ${header} ${where})
  find_library(${target}_LIBRARY ${library} ${where})
  mark_as_advanced(${target}_INCLUDE_DIR ${target}_LIBRARY)
  if(${target}_INCLUDE_DIR AND ${target}_LIBRARY)
    add_library(${target} UNKNOWN IMPORTED GLOBAL)
    set_target_properties(${target} PROPERTIES
      IMPORTED_LOCATION ${${target}_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES ${${target}_INCLUDE_DIR})
  endif()
endfunction()

# ---- Python's headers, and torch --------------------------------------------------------------------------------------

set(Python_FIND_VIRTUALENV FIRST)
find_package(Python 3.10 COMPONENTS Interpreter Development.Module)
if(NOT Python_Interpreter_FOUND)
  message(FATAL_ERROR "No Python 3.10 or newer was found. Name ComfyUI's Python with -DPython_EXECUTABLE=...")
endif()
if(NOT Python_Development.Module_FOUND)
  set(version ${Python_VERSION_MAJOR}.${Python_VERSION_MINOR})
  wavespeed_distribution_package(prefix libpython${version}-dev)
  if(prefix)
    set(Python_INCLUDE_DIR ${prefix}/include/python${version} CACHE PATH "Python's headers" FORCE)
    find_package(Python 3.10 COMPONENTS Interpreter Development.Module)
  endif()
  if(NOT Python_Development.Module_FOUND)
    message(FATAL_ERROR "The headers of ${Python_EXECUTABLE} (Python.h) were not found, and the distribution's package "
      "libpython${version}-dev could not be had. Install Python's development package, or name the folder that holds Python.h "
      "with -DPython_INCLUDE_DIR=...")
  endif()
endif()
add_library(wavespeed_python INTERFACE)
# The second folder: Debian's pyconfig.h includes <multiarch folder>/python3.x/pyconfig.h.
target_include_directories(wavespeed_python SYSTEM INTERFACE ${Python_INCLUDE_DIRS} ${Python_INCLUDE_DIRS}/..)

# Looked up, not imported: that takes seconds.
execute_process(
  COMMAND ${Python_EXECUTABLE} -c "
import importlib.metadata, importlib.util, pathlib
torch = importlib.util.find_spec('torch')
if torch is not None and torch.origin:
    version = importlib.metadata.version('torch')
    if tuple(int(part) for part in version.split('.')[:2]) >= (2, 10):
        print(pathlib.Path(torch.origin).parent)
" OUTPUT_VARIABLE WAVESPEED_TORCH_DIR OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)

# ---- cJSON ------------------------------------------------------------------------------------------------------------

set(WAVESPEED_CJSON_RUNTIME "")
wavespeed_shared_library(wavespeed_cjson cjson/cJSON.h cjson)
if(NOT TARGET wavespeed_cjson)
  wavespeed_download(release cjson ${WAVESPEED_CJSON_URL} ${WAVESPEED_CJSON_SHA256})
  if(release)
    # Compiled in: one source file. Users include it as <cjson/cJSON.h>, as an installed one is.
    file(COPY ${release}/cJSON.h DESTINATION ${PROJECT_BINARY_DIR}/downloads/include/cjson)
    add_library(wavespeed_cjson STATIC ${release}/cJSON.c)
    target_compile_definitions(wavespeed_cjson PUBLIC CJSON_HIDE_SYMBOLS)
    target_include_directories(wavespeed_cjson SYSTEM INTERFACE ${PROJECT_BINARY_DIR}/downloads/include)
  endif()
endif()
if(NOT TARGET wavespeed_cjson)
  wavespeed_distribution_package(prefix libcjson-dev libcjson1)
  if(prefix)
    wavespeed_shared_library(wavespeed_cjson cjson/cJSON.h cjson ${prefix})
  endif()
endif()
if(NOT TARGET wavespeed_cjson)
  message(FATAL_ERROR "cJSON was not found. Any one of these helps: install it (libcjson-dev on Debian and Ubuntu, cjson "
    "elsewhere); or let this machine reach ${WAVESPEED_CJSON_URL}, or put that file at "
    "${PROJECT_BINARY_DIR}/downloads/cjson-v1.7.18.tar.gz; or, on Debian and Ubuntu, let apt-get reach its package source.")
endif()
if(wavespeed_cjson_LIBRARY)
  cmake_path(IS_PREFIX PROJECT_BINARY_DIR ${wavespeed_cjson_LIBRARY} in_build_tree)
  if(in_build_tree)
    file(REAL_PATH ${wavespeed_cjson_LIBRARY} WAVESPEED_CJSON_RUNTIME)
  endif()
endif()

# ---- cmocka, for the tests --------------------------------------------------------------------------------------------

if(WAVESPEED_DEVELOPMENT)
  wavespeed_shared_library(wavespeed_cmocka cmocka.h cmocka)
  if(NOT TARGET wavespeed_cmocka)
    wavespeed_download(release cmocka ${WAVESPEED_CMOCKA_URL} ${WAVESPEED_CMOCKA_SHA256})
    if(release)
      # One source file as well; the definitions are what its own configuration finds on Linux.
      add_library(wavespeed_cmocka STATIC ${release}/src/cmocka.c)
      target_compile_definitions(wavespeed_cmocka PRIVATE
        _GNU_SOURCE HAVE_CLOCK_REALTIME HAVE_GCC_THREAD_LOCAL_STORAGE HAVE_INTTYPES_H HAVE_MALLOC_H HAVE_SIGLONGJMP HAVE_SIGNAL_H
        HAVE_STRINGS_H HAVE_STRUCT_TIMESPEC)
      target_include_directories(wavespeed_cmocka SYSTEM PUBLIC ${release}/include)
    endif()
  endif()
  if(NOT TARGET wavespeed_cmocka)
    wavespeed_distribution_package(prefix libcmocka-dev libcmocka0)
    if(prefix)
      wavespeed_shared_library(wavespeed_cmocka cmocka.h cmocka ${prefix})
    endif()
  endif()
  if(NOT TARGET wavespeed_cmocka)
    message(WARNING "cmocka was not found, so the C tests are skipped. Any one of these helps: install it (libcmocka-dev on Debian "
      "and Ubuntu, cmocka elsewhere); or let this machine reach ${WAVESPEED_CMOCKA_URL}, or put that file at "
      "${PROJECT_BINARY_DIR}/downloads/cmocka-cmocka-1.1.7.tar.xz; or, on Debian and Ubuntu, let apt-get reach its package source.")
  endif()
endif()
