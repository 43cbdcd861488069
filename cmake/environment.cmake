# The development environment: build/venv with a real ComfyUI's requirements. tools/setup_environment.py does the work and
# says what it does; a second run takes a second.
find_program(WAVESPEED_SYSTEM_PYTHON python3 REQUIRED DOC "Python that makes build/venv")

execute_process(
  COMMAND ${WAVESPEED_SYSTEM_PYTHON} ${PROJECT_SOURCE_DIR}/tools/setup_environment.py
  RESULT_VARIABLE setup_result)
if(NOT setup_result EQUAL 0)
  message(FATAL_ERROR "The environment in build/venv could not be set up; the reason stands above.")
endif()
set(Python_EXECUTABLE ${PROJECT_BINARY_DIR}/venv/bin/python CACHE FILEPATH "Python whose headers and torch are used" FORCE)
