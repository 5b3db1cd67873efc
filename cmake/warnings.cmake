# headroom_options: what every target of this project compiles with.
add_library(headroom_options INTERFACE)
target_compile_options(headroom_options INTERFACE -Wall -Wextra -Wshadow -Wnon-virtual-dtor
  # g++ 12 sees overlaps in std::string that are not there (gcc.gnu.org bug 105651).
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>
  $<$<BOOL:${HEADROOM_WERROR}>:-Werror>
  $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>)
target_include_directories(headroom_options INTERFACE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/include)

if(HEADROOM_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
elseif(HEADROOM_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer)
  add_link_options(-fsanitize=thread)
elseif(HEADROOM_SANITIZE)
  message(FATAL_ERROR "HEADROOM_SANITIZE is '${HEADROOM_SANITIZE}'; use address or thread")
endif()
