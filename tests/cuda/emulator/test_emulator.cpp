// SPDX-License-Identifier: Apache-2.0
// Correct kernels give exact results under every schedule; the runtime behaves as CUDA's where launch code relies on
// it.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <vector>

#include "array.h"
#include "check.h"
#include "emulator.h"
#include "kernels.cuh"

namespace {

using namespace tokendraw;
using namespace tokendraw::test;
using cuda::launch;
using cuda::LaunchShape;

#if defined(TOKENDRAW_EMULATOR_TSAN)
constexpr std::uint64_t kSchedules = 6;
#else
constexpr std::uint64_t kSchedules = 40;
#endif

std::vector<unsigned> random_values(std::size_t count, std::int64_t bound, std::uint64_t seed) {
  Random random(seed);
  std::vector<unsigned> values(count);
  for (unsigned& value : values) value = static_cast<unsigned>(random.below(bound));
  return values;
}

unsigned sum_of(const std::vector<unsigned>& values, std::size_t from, std::size_t count) {
  const auto begin = values.begin() + static_cast<std::ptrdiff_t>(from);
  return std::accumulate(begin, begin + static_cast<std::ptrdiff_t>(count), 0u);
}

LaunchShape shape_of(unsigned grid, unsigned block, unsigned cluster = 1, std::size_t shared = 0) {
  LaunchShape shape;
  shape.grid = grid;
  shape.block = block;
  shape.cluster = cluster;
  shape.shared = shared;
  return shape;
}

/// Runs the body under every schedule; afterwards nothing may have been reported.
template <class Body>
void under_schedules(Body body) {
  for (std::uint64_t seed = 0; seed < kSchedules; ++seed) {
    emulated::set_schedule(seed);
    body();
    const std::string report = emulated::take_report();
    CHECK_WITH(report.empty(), "schedule " + shown(seed) + ": " + report);
  }
  emulated::set_schedule(0);
}

TEST(a_block_adds_up_its_row) {
  const std::vector<unsigned> values = random_values(3 * 1000, 1 << 20, 1);
  const Array<unsigned> in(values);
  const Array<unsigned> out(3);
  under_schedules([&] {
    CHECK_EQUAL(static_cast<int>(launch(row_sums<256>, shape_of(3, 256), in.get(), 1000, out.get())), 0);
    const std::vector<unsigned> sums = out.values();
    for (std::size_t row = 0; row < 3; ++row) CHECK_EQUAL(sums[row], sum_of(values, row * 1000, 1000));
  });
}

TEST(a_warp_scans) {
  const std::vector<unsigned> values = random_values(256, 1000, 2);
  const Array<unsigned> in(values);
  const Array<unsigned> out(256);
  under_schedules([&] {
    launch(warp_scan, shape_of(2, 128), in.get(), out.get());
    const std::vector<unsigned> sums = out.values();
    for (std::size_t i = 0; i < 256; ++i) CHECK_EQUAL(sums[i], sum_of(values, i / 32 * 32, i % 32 + 1));
  });
}

TEST(the_last_block_adds_up_the_others) {
  const std::vector<unsigned> values = random_values(20000, 1 << 16, 3);
  const Array<unsigned> in(values);
  const Array<unsigned> partial(9);
  const Array<unsigned> counter(std::vector<unsigned>{0});
  const Array<unsigned> total(1);
  under_schedules([&] {
    launch(split_sum<128>, shape_of(9, 128), in.get(), 20000, partial.get(), counter.get(), total.get());
    CHECK_EQUAL(total.last(), sum_of(values, 0, values.size()));
    CHECK_EQUAL(counter.last(), 0u);
  });
}

TEST(a_cluster_adds_up_through_distributed_shared_memory) {
  const std::vector<unsigned> values = random_values(3 * 5000, 1 << 16, 4);
  const Array<unsigned> in(values);
  for (const unsigned blocks : {1u, 2u, 4u, 8u}) {
    const Array<unsigned> out(3 * blocks);
    under_schedules([&] {
      launch(cluster_sums<128>, shape_of(3 * blocks, 128, blocks), in.get(), 5000, out.get());
      const std::vector<unsigned> sums = out.values();
      for (std::size_t i = 0; i < sums.size(); ++i) {
        CHECK_EQUAL(sums[i], sum_of(values, i / blocks * 5000, 5000));
      }
    });
  }
}

TEST(dynamic_shared_memory_and_its_atomics) {
  const std::vector<unsigned> values = random_values(5000, 16000, 5);
  std::vector<unsigned> expected(16000);
  for (const unsigned value : values) ++expected[value];
  const Array<unsigned> in(values);
  const Array<unsigned> counts(16000);
  CHECK_EQUAL(static_cast<int>(cudaFuncSetAttribute(histogram, cudaFuncAttributeMaxDynamicSharedMemorySize, 64000)), 0);
  under_schedules([&] {
    cudaMemset(counts.get(), 0, 64000);
    launch(histogram, shape_of(2, 256, 1, 64000), in.get(), 5000, 16000, counts.get());
    CHECK(counts.values() == expected);
  });
}

TEST(lanes_learn_from_each_other) {
  std::vector<unsigned> values = random_values(32, 20, 6);
  const Array<unsigned> in(values);
  const Array<WarpResults> out(32);
  unsigned ballot = 0;
  for (unsigned lane = 0; lane < 32; ++lane) ballot |= (values[lane] % 2 == 0 ? 1u : 0u) << lane;
  under_schedules([&] {
    launch(warp_collectives, shape_of(1, 32), in.get(), out.get());
    const std::vector<WarpResults> results = out.values();
    for (unsigned lane = 0; lane < 32; ++lane) {
      const WarpResults& mine = results[lane];
      unsigned match = 0;
      for (unsigned other = 0; other < 32; ++other) match |= (values[other] == values[lane] ? 1u : 0u) << other;
      CHECK_EQUAL(mine.ballot, ballot);
      CHECK_EQUAL(mine.any, 0u);
      CHECK_EQUAL(mine.all, 1u);
      CHECK_EQUAL(mine.match, match);
      CHECK_EQUAL(mine.together, kAllLanes);
      CHECK_EQUAL(mine.lowest_half, values[lane < 16 ? 3 : 20]);
      if (lane % 8 == 0) CHECK_EQUAL(mine.sum_of_segment, sum_of(values, lane, 8));
      CHECK_EQUAL(mine.xor_segment, values[lane & ~8u]);
      CHECK_EQUAL(mine.same_above, values[lane % 4 == 0 ? lane : lane - 1]);
      CHECK_EQUAL(mine.active, 1u);
    }
  });
}

TEST(warps_reduce) {
  const std::vector<unsigned> values = random_values(32, 1 << 20, 7);
  const Array<unsigned> in(values);
  const Array<unsigned> out(7);
  std::vector<unsigned> expected{0, ~0u, 0, ~0u, 0, 0, 0};
  for (const unsigned value : values) {
    expected[0] += value;
    expected[1] = std::min(expected[1], value);
    expected[2] = std::max(expected[2], value);
    expected[3] &= value | 64u;
    expected[4] |= value;
    expected[5] ^= value;
  }
  expected[6] = 0u - expected[2];
  under_schedules([&] {
    launch(warp_reductions, shape_of(1, 32), in.get(), out.get());
    CHECK(out.values() == expected);
  });
}

TEST(barriers_count) {
  const Array<int> out(3);
  under_schedules([&] {
    launch(counting_barriers, shape_of(1, 75), out.get());
    CHECK(out.values() == (std::vector<int>{37, 1, 1}));
  });
}

TEST(named_barriers_let_warps_work_in_turns) {
  const std::vector<unsigned> values = random_values(20 * 32, 1000, 8);
  const Array<unsigned> in(values);
  const Array<unsigned> out(20);
  under_schedules([&] {
    launch(two_warps, shape_of(1, 64), in.get(), 20, out.get());
    const std::vector<unsigned> sums = out.values();
    for (std::size_t round = 0; round < 20; ++round) CHECK_EQUAL(sums[round], sum_of(values, round * 32, 32));
  });
}

TEST(a_released_store_is_seen_by_who_acquires_it) {
  const Array<unsigned> value(1);
  const Array<std::uint32_t> raised(1);
  const Array<unsigned> result(1);
  under_schedules([&] {
    cudaMemset(raised.get(), 0, 4);
    launch(flag, shape_of(1, 64), value.get(), raised.get(), result.get());
    CHECK_EQUAL(result.last(), 42u);
  });
}

TEST(a_lock_holds_between_blocks) {
  const Array<unsigned> lock(std::vector<unsigned>{0});
  const Array<unsigned> count(1);
  under_schedules([&] {
    cudaMemset(count.get(), 0, 4);
    launch(locked_count, shape_of(20, 32), lock.get(), count.get());
    CHECK_EQUAL(count.last(), 20u);
  });
}

TEST(fences_before_a_barrier_count_for_who_signals_after_it) {
  const Array<unsigned> scratch(5 * 64);
  const Array<unsigned> counter(1);
  const Array<unsigned> total(1);
  under_schedules([&] {
    cudaMemset(counter.get(), 0, 4);
    launch(fence_then_meet<64>, shape_of(5, 64), scratch.get(), counter.get(), total.get());
    CHECK_EQUAL(total.last(), 320u);
  });
}

TEST(grids_and_blocks_have_three_dimensions) {
  const Array<uint4> out(2 * 3 * 4 * 5 * 6 * 2);
  LaunchShape shape;
  shape.grid = dim3(2, 3, 4);
  shape.block = dim3(5, 6, 2);
  launch(places, shape, out.get());
  const std::vector<uint4> found = out.values();
  for (unsigned i = 0; i < found.size(); ++i) {
    const unsigned thread = i % 60;
    CHECK_EQUAL(found[i].x, thread % 5);
    CHECK_EQUAL(found[i].y, thread / 5 % 6);
    CHECK_EQUAL(found[i].z, thread / 30);
    CHECK_EQUAL(found[i].w, i / 60);
  }
}

TEST(the_same_seed_gives_the_same_schedule) {
  const Array<unsigned> counter(std::vector<unsigned>{0});
  const Array<unsigned> in(random_values(2000, 10, 9));
  const Array<unsigned> partial(9);
  const Array<unsigned> total(1);
  const auto switches = [&](std::uint64_t seed) {
    emulated::set_schedule(seed);
    const std::uint64_t before = emulated::counts().switches;
    launch(split_sum<128>, shape_of(9, 128), in.get(), 2000, partial.get(), counter.get(), total.get());
    cudaDeviceSynchronize();
    return emulated::counts().switches - before;
  };
  const std::uint64_t first = switches(11);
  CHECK_EQUAL(switches(11), first);
  bool is_other = false;
  for (std::uint64_t seed = 12; seed < 20; ++seed) is_other = is_other || switches(seed) != first;
  CHECK(is_other);
  emulated::set_schedule(0);
}

TEST(a_large_row_takes_a_fraction_of_a_second) {
  constexpr int kVocab = 128256;
  Random random(10);
  std::vector<float> scores(kVocab);
  for (float& score : scores) score = static_cast<float>(random.between(-8.0, 8.0));
  const Array<float> in(scores);
  const Array<float> top(1);
  const Array<float> sum(1);
  const auto* fours = reinterpret_cast<const float4*>(in.get());
  const float expected_top = *std::max_element(scores.begin(), scores.end());
  double expected_sum = 0.0;
  for (const float score : scores) expected_sum += std::exp(static_cast<double>(score) - expected_top);
  const auto seconds_with = [&](auto kernel, unsigned threads) {
    const auto start = std::chrono::steady_clock::now();
    launch(kernel, shape_of(1, threads), fours, kVocab / 4, top.get(), sum.get());
    cudaDeviceSynchronize();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  for (const std::uint64_t seed : {0u, 1u, 2u, 3u}) {
    emulated::set_schedule(seed);
    const double narrow = seconds_with(row_softmax_sum<256>, 256);
    CHECK_EQUAL(top.last(), expected_top);
    CHECK(std::fabs(sum.last() / expected_sum - 1.0) < 1e-5);
    const double wide = seconds_with(row_softmax_sum<1024>, 1024);
    CHECK(std::fabs(sum.last() / expected_sum - 1.0) < 1e-5);
    std::printf("     schedule %llu: %.1f ms with 256 threads, %.1f ms with 1024\n",
                static_cast<unsigned long long>(seed), 1e3 * narrow, 1e3 * wide);
  }
  CHECK(emulated::take_report().empty());
  emulated::set_schedule(0);
}

// ---- the runtime ----

TEST(memory_is_poison_until_it_is_written) {
  const Array<float> floats(10);
  const Array<double> doubles(10);
  for (const float value : floats.values()) CHECK(std::isnan(value));
  for (const double value : doubles.values()) CHECK(std::isnan(value));
}

TEST(a_stream_runs_when_somebody_waits_for_it) {
  cudaStream_t stream = nullptr;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  const Array<unsigned> in(std::vector<unsigned>(32, 7));
  const Array<unsigned> out(32);
  cudaMemset(out.get(), 0, 128);
  cudaDeviceSynchronize();
  LaunchShape shape = shape_of(1, 32);
  shape.stream = stream;
  const std::uint64_t before = emulated::counts().launches;
  launch(warp_scan, shape, in.get(), out.get());
  CHECK_EQUAL(emulated::counts().launches, before);
  CHECK_EQUAL(static_cast<int>(cudaStreamQuery(stream)), 0);  // who polls sees progress
  CHECK_EQUAL(emulated::counts().launches, before + 1);
  CHECK_EQUAL(out.last(), 7u * 32);
  cudaStreamDestroy(stream);
}

TEST(an_event_orders_two_streams) {
  cudaStream_t first = nullptr;
  cudaStream_t second = nullptr;
  cudaEvent_t event = nullptr;
  cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking);
  cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking);
  cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  const Array<unsigned> in(std::vector<unsigned>(32, 1));
  const Array<unsigned> middle(32);
  const Array<unsigned> out(32);
  LaunchShape shape = shape_of(1, 32);
  shape.stream = first;
  launch(warp_scan, shape, in.get(), middle.get());
  cudaEventRecord(event, first);
  cudaStreamWaitEvent(second, event);
  shape.stream = second;
  launch(warp_scan, shape, middle.get(), out.get());
  cudaStreamSynchronize(second);
  CHECK_EQUAL(out.last(), 32u * 33 / 2);
  CHECK_EQUAL(static_cast<int>(cudaEventQuery(event)), 0);
  cudaEventDestroy(event);
  cudaStreamDestroy(first);
  cudaStreamDestroy(second);
}

TEST(a_graph_replays_what_was_captured) {
  cudaStream_t stream = nullptr;
  cudaStreamCreate(&stream);
  const Array<unsigned> values(std::vector<unsigned>(32, 1));
  LaunchShape shape = shape_of(1, 32);
  shape.stream = stream;
  cudaFuncAttributes attributes;
  cudaFuncGetAttributes(&attributes, warp_scan);
  cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal);
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  cudaStreamIsCapturing(stream, &status);
  CHECK_EQUAL(static_cast<int>(status), static_cast<int>(cudaStreamCaptureStatusActive));
  CHECK_EQUAL(static_cast<int>(launch(warp_scan, shape, values.get(), values.get())), 0);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  CHECK_EQUAL(static_cast<int>(cudaStreamEndCapture(stream, &graph)), 0);
  cudaGraphInstantiate(&executable, graph);
  cudaStreamSynchronize(stream);
  CHECK_EQUAL(values.last(), 1u);  // captured, not run
  cudaGraphLaunch(executable, stream);
  cudaGraphLaunch(executable, stream);
  cudaStreamSynchronize(stream);
  CHECK_EQUAL(values.last(), 32u * 33 / 2);
  CHECK(emulated::take_report().empty());
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}

/// What this call gives under capture; the capture must then be lost.
template <class Call>
cudaError_t under_capture(Call call) {
  cudaStream_t stream = nullptr;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal);
  const cudaError_t error = call(stream);
  cudaGraph_t graph = nullptr;
  const cudaError_t end = cudaStreamEndCapture(stream, &graph);
  CHECK_EQUAL(static_cast<int>(end), static_cast<int>(cudaErrorStreamCaptureInvalidated));
  cudaStreamDestroy(stream);
  emulated::take_report();
  return error;
}

TEST(under_capture_nothing_waits_allocates_or_loads) {
  const Array<unsigned> values(std::vector<unsigned>(32, 1));
  const int unsupported = cudaErrorStreamCaptureUnsupported;
  CHECK_EQUAL(static_cast<int>(under_capture([](cudaStream_t) {
                unsigned* pointer = nullptr;
                return cudaMalloc(&pointer, 16);
              })),
              unsupported);
  CHECK_EQUAL(static_cast<int>(under_capture([](cudaStream_t stream) { return cudaStreamSynchronize(stream); })),
              unsupported);
  CHECK_EQUAL(static_cast<int>(under_capture([](cudaStream_t) { return cudaDeviceSynchronize(); })), unsupported);
  emulated::forget_loaded_kernels();
  CHECK_EQUAL(static_cast<int>(under_capture([&](cudaStream_t stream) {
                LaunchShape shape = shape_of(1, 32);
                shape.stream = stream;
                return launch(warp_scan, shape, values.get(), values.get());
              })),
              unsupported);
}

TEST(a_launch_that_no_device_takes_is_refused) {
  const Array<unsigned> values(std::vector<unsigned>(64, 1));
  const auto error_of = [&](const LaunchShape& shape) {
    const int error = launch(cluster_sums<128>, shape, values.get(), 1, values.get());
    emulated::take_report();
    return error;
  };
  CHECK_EQUAL(error_of(shape_of(0, 128)), static_cast<int>(cudaErrorInvalidConfiguration));
  CHECK_EQUAL(error_of(shape_of(1, 1056)), static_cast<int>(cudaErrorInvalidConfiguration));
  CHECK_EQUAL(error_of(shape_of(3, 128, 2)), static_cast<int>(cudaErrorInvalidConfiguration));
  CHECK_EQUAL(error_of(shape_of(16, 128, 16)), static_cast<int>(cudaErrorInvalidConfiguration));
  CHECK_EQUAL(error_of(shape_of(1, 128, 1, 48 * 1024 + 16)), static_cast<int>(cudaErrorInvalidValue));
  emulated::set_compute_capability(0, 8, 0);
  CHECK_EQUAL(error_of(shape_of(2, 128, 2)), static_cast<int>(cudaErrorNotSupported));
  emulated::set_compute_capability(0, 9, 0);
  CHECK_EQUAL(static_cast<int>(
                  cudaFuncSetAttribute(cluster_sums<128>, cudaFuncAttributeMaxDynamicSharedMemorySize, 228 * 1024)),
              static_cast<int>(cudaErrorInvalidValue));
}

TEST(a_stream_belongs_to_its_device) {
  cudaStream_t stream = nullptr;
  cudaSetDevice(1);
  cudaStreamCreate(&stream);
  cudaSetDevice(0);
  const Array<unsigned> values(std::vector<unsigned>(32, 1));
  LaunchShape shape = shape_of(1, 32);
  shape.stream = stream;
  CHECK_EQUAL(static_cast<int>(launch(warp_scan, shape, values.get(), values.get())),
              static_cast<int>(cudaErrorInvalidResourceHandle));
  int device = -1;
  cudaStreamGetDevice(stream, &device);
  CHECK_EQUAL(device, 1);
  cudaStreamDestroy(stream);
  emulated::take_report();
}

TEST(pointers_tell_where_they_are) {
  cudaSetDevice(1);
  const Array<float> values(4);
  cudaSetDevice(0);
  const float here = 0.0f;
  cudaPointerAttributes attributes;
  cudaPointerGetAttributes(&attributes, values.get() + 2);
  CHECK_EQUAL(static_cast<int>(attributes.type), static_cast<int>(cudaMemoryTypeDevice));
  CHECK_EQUAL(attributes.device, 1);
  cudaPointerGetAttributes(&attributes, &here);
  CHECK_EQUAL(static_cast<int>(attributes.type), static_cast<int>(cudaMemoryTypeUnregistered));
  CHECK_EQUAL(static_cast<int>(cudaFree(values.get() + 1)), static_cast<int>(cudaErrorInvalidValue));
  emulated::take_report();
}

TEST(copies_stay_inside_their_allocations) {
  const Array<unsigned> values(std::vector<unsigned>(4, 1));
  std::vector<unsigned> host(8);
  const int invalid = cudaErrorInvalidValue;
  CHECK_EQUAL(static_cast<int>(cudaMemcpy(host.data(), values.get(), 20, cudaMemcpyDeviceToHost)), invalid);
  CHECK_EQUAL(static_cast<int>(cudaMemcpy(values.get(), host.data(), 20, cudaMemcpyHostToDevice)), invalid);
  CHECK_EQUAL(static_cast<int>(cudaMemcpy(host.data(), host.data() + 4, 16, cudaMemcpyDeviceToHost)), invalid);
  CHECK_EQUAL(static_cast<int>(cudaMemset(values.get() + 1, 0, 16)), invalid);
  emulated::take_report();
}

TEST(intrinsics) {
  CHECK_EQUAL(__brev(1u), 0x80000000u);
  CHECK_EQUAL(__brevll(1ull), 0x8000000000000000ull);
  CHECK_EQUAL(__clz(0), 32);
  CHECK_EQUAL(__clz(-1), 0);
  CHECK_EQUAL(__clzll(1), 63);
  CHECK_EQUAL(__ffs(0), 0);
  CHECK_EQUAL(__ffs(8), 4);
  CHECK_EQUAL(__popc(0xf0f0u), 8);
  CHECK_EQUAL(__umulhi(0xffffffffu, 0xffffffffu), 0xfffffffeu);
  CHECK_EQUAL(__umul64hi(~0ull, ~0ull), ~0ull - 1);
  CHECK_EQUAL(__mulhi(-2, 1), -1);
  CHECK_EQUAL(__funnelshift_l(0x80000000u, 1u, 1), 3u);
  CHECK_EQUAL(__funnelshift_l(5u, 7u, 32), 7u);
  CHECK_EQUAL(__funnelshift_r(4u, 1u, 1), 0x80000002u);
  CHECK_EQUAL(__byte_perm(0x33221100u, 0x77665544u, 0x7531u), 0x77553311u);
  CHECK_EQUAL(__byte_perm(0x80u, 0u, 0x8888u), 0xffffffffu);
  CHECK_EQUAL(__uint_as_float(0x3f800000u), 1.0f);
  CHECK_EQUAL(__float_as_uint(-0.0f), 0x80000000u);
  CHECK_EQUAL(__fmaf_rn(0x1.000002p0f, 0x1.000002p0f, -0x1.000004p0f), 0x1p-46f);
  CHECK(std::isnan(__longlong_as_double(-1)));
}

}  // namespace
