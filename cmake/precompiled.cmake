# headroom_precompile(TARGET HEADER...): parses the headers of large libraries once for all sources of a
# target, which halves a build from scratch. Compiler caches see through neither the time nor
# the contents of what is precompiled, so with a compiler launcher it is off.
if(CMAKE_CXX_COMPILER_LAUNCHER)
  set(precompiled_default OFF)
else()
  set(precompiled_default ON)
endif()
option(HEADROOM_PRECOMPILED "Precompile the headers of large libraries" ${precompiled_default})

function(headroom_precompile target)
  if(HEADROOM_PRECOMPILED)
    target_precompile_headers(${target} PRIVATE ${ARGN})
  endif()
endfunction()
