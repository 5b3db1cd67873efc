# The presets asan, tsan, arm64, release and dist, and wheels, compile sources of a target together (CMAKE_UNITY_BUILD):
# a header is read once instead of ten times, which halves their work and more; dev does with GPUROOM_UNITY=ON in the
# environment, as in CI, and else compiles each source alone. Those below define, inside an unnamed namespace, a name that another source of their target defines
# as well, and are compiled alone everywhere. A new source that "redefines" something in these builds belongs here, too.
function(gpuroom_alone folder)
  if(IS_DIRECTORY ${CMAKE_SOURCE_DIR}/${folder})
    list(TRANSFORM ARGN PREPEND ${CMAKE_SOURCE_DIR}/${folder}/ OUTPUT_VARIABLE sources)
    set_source_files_properties(${sources} DIRECTORY ${CMAKE_SOURCE_DIR}/${folder}
      PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
  endif()
endfunction()

gpuroom_alone(sim module_api.cc pool_api.cc proc_address.cc)
if(GPUROOM_TESTS)
  gpuroom_alone(tests/unit plan_property_test.cc range_rules_test.cc runtime_ipc_socket_test.cc tier_device_test.cc
    tier_ledger_crash_test.cc)
  gpuroom_alone(tests/sleep failure_test.cc sweep_test.cc)
  gpuroom_alone(tests/conformance mixed_probes.cc capture_probes.cc ordering_probes.cc peer_probes.cc
    peer_legacy_probes.cc)
  gpuroom_alone(tests/shim sweep_sleep.cc sleep_hold_test.cc sleep_hooks_test.cc sleep_process_test.cc)
  gpuroom_alone(tests/soak graph.cc)
endif()
