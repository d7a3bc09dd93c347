// Behind a translation unit that defines the kernel KERNEL: runs it over a grid.
//
// Arguments come as cuLaunchKernel takes them, as pointers to their values. With their sizes, so
// that a caller who disagrees with the signature of the kernel is told, not believed.
#include <utility>

namespace runner {

template <class... A, std::size_t... I>
int run(void (*kernel)(A...), unsigned blocks, unsigned threads, void *const *arguments,
        const std::size_t *sizes, std::size_t count, std::index_sequence<I...>) {
  if (count != sizeof...(A)) return -1;
  const std::size_t wanted[] = {sizeof(A)...};
  for (std::size_t i = 0; i < count; ++i) {
    if (sizes[i] != wanted[i]) return static_cast<int>(i) + 1;
  }
  gridDim = {blocks, 1, 1};
  blockDim = {threads, 1, 1};
  for (unsigned block = 0; block < blocks; ++block) {
    for (unsigned thread = 0; thread < threads; ++thread) {
      blockIdx = {block, 0, 0};
      threadIdx = {thread, 0, 0};
      kernel(*static_cast<A *>(arguments[I])...);
    }
  }
  return 0;
}

template <class... A>
int run(void (*kernel)(A...), unsigned blocks, unsigned threads, void *const *arguments,
        const std::size_t *sizes, std::size_t count) {
  return run(kernel, blocks, threads, arguments, sizes, count, std::index_sequence_for<A...>());
}

}  // namespace runner

extern "C" int run_kernel(unsigned blocks, unsigned threads, void *const *arguments,
                          const std::size_t *sizes, std::size_t count) {
  return runner::run(&KERNEL, blocks, threads, arguments, sizes, count);
}

#ifdef STANDALONE
// As a program of its own, for the sanitizers: reads the launch from a file, with every array in
// memory of exactly its size, and writes the arrays back.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

static std::uint64_t number(std::FILE *file) {
  std::uint64_t value = 0;
  if (std::fread(&value, sizeof value, 1, file) != 1) std::abort();
  return value;
}

int main(int, char **names) {
  std::FILE *file = std::fopen(names[1], "rb");
  const unsigned blocks = number(file), threads = number(file);
  const std::size_t count = number(file);
  std::vector<void *> held(count), arguments(count);
  std::vector<std::size_t> sizes(count), bytes(count);
  std::vector<bool> is_array(count);
  for (std::size_t i = 0; i < count; ++i) {
    is_array[i] = number(file);
    bytes[i] = number(file);
    held[i] = std::malloc(bytes[i]);
    if (std::fread(held[i], 1, bytes[i], file) != bytes[i]) std::abort();
    arguments[i] = is_array[i] ? static_cast<void *>(&held[i]) : held[i];
    sizes[i] = is_array[i] ? sizeof(void *) : bytes[i];
  }
  std::fclose(file);
  const int fault = run_kernel(blocks, threads, arguments.data(), sizes.data(), count);
  if (fault) return 100;
  file = std::fopen(names[2], "wb");
  for (std::size_t i = 0; i < count; ++i) {
    if (is_array[i]) std::fwrite(held[i], 1, bytes[i], file);
    std::free(held[i]);
  }
  std::fclose(file);
  return 0;
}
#endif
