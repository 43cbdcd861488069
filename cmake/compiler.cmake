# Warnings, the same for gcc and clang. The list for C is also what the clang check compiles with (cmake/tests.cmake).
set(WAVESPEED_C_WARNINGS
  -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wcast-qual -Wundef -Wformat=2)
set(WAVESPEED_CXX_WARNINGS -Wall -Wextra -Wshadow -Wconversion -Wcast-qual -Wundef -Wformat=2)

# wavespeed_warnings(<target> [NO_PEDANTIC])
# NO_PEDANTIC: for Python's type slots, which keep functions in void pointers.
function(wavespeed_warnings target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "NO_PEDANTIC" "" "")
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:C>:${WAVESPEED_C_WARNINGS}>
    $<$<COMPILE_LANGUAGE:CXX>:${WAVESPEED_CXX_WARNINGS}>)
  if(NOT arg_NO_PEDANTIC)
    target_compile_options(${target} PRIVATE -Wpedantic)
  endif()
  if(WAVESPEED_WARNINGS_AS_ERRORS)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
endfunction()
