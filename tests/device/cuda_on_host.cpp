// CUDA's threads, blocks and barriers in C++, as far as the kernels of engine/op/cuda.py use them: every thread of a block is a
// thread here, blocks run one after the other.  The test puts the kernels' source in place of KERNELS.
#include <barrier>
#include <cmath>
#include <memory>
#include <thread>
#include <vector>

struct Index {
    unsigned x;
};
static thread_local Index threadIdx;
static Index blockIdx, blockDim;
static std::unique_ptr<std::barrier<>> gate;

#define __global__
#define __device__ static
#define __shared__ static
#define __syncthreads() gate->arrive_and_wait()

template <class Kernel>
static void launch(unsigned blocks, unsigned threads, Kernel kernel) {
    blockDim.x = threads;
    for (unsigned block = 0; block < blocks; block++) {
        blockIdx.x = block;
        gate = std::make_unique<std::barrier<>>(threads);
        std::vector<std::thread> running;
        for (unsigned thread = 0; thread < threads; thread++)
            running.emplace_back([=] {
                threadIdx.x = thread;
                kernel();
            });
        for (auto& each : running) each.join();
    }
}

using std::exp, std::fmax, std::log;

KERNELS

extern "C" void run_softmax(unsigned rows, const REAL* x, REAL* y, long long columns, int logarithm) {
    launch(rows, THREADS, [=] { softmax(x, y, columns, logarithm); });
}

extern "C" void run_sparse_cross_entropy(
    unsigned rows, const REAL* x, const long long* labels, REAL* loss, REAL* backprop, long long columns) {
    launch(rows, THREADS, [=] { sparse_cross_entropy(x, labels, loss, backprop, columns); });
}

extern "C" void run_philox(
    unsigned blocks, const unsigned long long* offsets, unsigned* words, unsigned long long count,
    unsigned long long key, unsigned long long low, unsigned long long high) {
    launch(blocks, THREADS, [=] { philox(offsets, words, count, key, low, high); });
}
