# cmake --build build --target demo: pictures in a real ComfyUI, with and without the cache, in build/demo.
add_custom_target(demo
  COMMAND ${Python_EXECUTABLE} ${PROJECT_SOURCE_DIR}/tools/demo.py --output ${PROJECT_BINARY_DIR}/demo
  WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
  USES_TERMINAL # its progress shows at once
  VERBATIM)
add_dependencies(demo _core)
if(TARGET torch_shim)
  add_dependencies(demo torch_shim)
endif()
