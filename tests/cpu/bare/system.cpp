// SPDX-License-Identifier: Apache-2.0
// As much of an operating system as a statically linked, single-threaded C++ program asks for: it is read from the disk
// into memory, writes to the parallel port, allocates, and ends. Linux's numbers and structures; x86-64, ring 0.
#include <elf.h>

#include <cstddef>
#include <cstdint>

extern "C" [[noreturn]] void enter_program(std::uint64_t entry, std::uint64_t stack);

/// What bochs.py writes into the last sector of the image: the size of the program, then its arguments and its
/// environment, each a list of strings that an empty one ends.
struct Arguments {
  std::uint64_t program_bytes;
  char strings[504];
};
extern "C" const Arguments arguments;

namespace {

// The memory map, in bytes. The program itself lies where its headers say, from 4 MiB on.
constexpr std::uint64_t kStackTop = 64u << 20;
constexpr std::uint64_t kStackBytes = 4u << 20;
constexpr std::uint64_t kProgramFile = 64u << 20;
constexpr std::uint64_t kMapBegin = 128u << 20;
constexpr std::uint64_t kMapEnd = 448u << 20;
constexpr std::uint64_t kPage = 4096;
constexpr std::uint32_t kFirstProgramSector = 64;

// Negative error numbers of Linux.
constexpr std::int64_t kNoMemory = -12;
constexpr std::int64_t kInvalid = -22;
constexpr std::int64_t kNoTerminal = -25;
constexpr std::int64_t kNoSuchCall = -38;

std::uint64_t heap_end = 0;
std::uint64_t map_end = kMapBegin;

// ---- the machine ----

void out(std::uint16_t port, std::uint8_t value) { asm volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }

std::uint8_t in(std::uint16_t port) {
  std::uint8_t value = 0;
  asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}

void copy(std::uint64_t to, std::uint64_t from, std::uint64_t bytes) {
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
}

void clear(std::uint64_t to, std::uint64_t bytes) {
  asm volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(0) : "memory");
}

/// The first parallel port, whose file Bochs writes.
void print(char letter) {
  out(0x378, static_cast<std::uint8_t>(letter));
  out(0x37a, 0x0d);  // selected, initialised, strobe
  out(0x37a, 0x0c);
}

void print(const char* text) {
  for (; *text != '\0'; ++text) print(*text);
}

/// One sector of the first disk, by programmed input.
void read_sector(std::uint32_t sector, std::uint64_t to) {
  out(0x3f6, 2);  // no interrupts
  out(0x1f6, static_cast<std::uint8_t>(0xe0 | sector >> 24));
  out(0x1f2, 1);
  out(0x1f3, static_cast<std::uint8_t>(sector));
  out(0x1f4, static_cast<std::uint8_t>(sector >> 8));
  out(0x1f5, static_cast<std::uint8_t>(sector >> 16));
  out(0x1f7, 0x20);
  while ((in(0x1f7) & 0x88) != 0x08) {
  }
  std::uint64_t words = 256;
  asm volatile("rep insw" : "+D"(to), "+c"(words) : "d"(0x1f0) : "memory");
}

/// bochs.py waits for the text, and for what Bochs says when this is written to its port.
[[noreturn]] void end(int status) {
  print("\nexit status ");
  if (status > 9) print(static_cast<char>('0' + status / 10 % 10));
  print(static_cast<char>('0' + status % 10));
  print('\n');
  for (const char* text = "Shutdown"; *text != '\0'; ++text) out(0x8900, static_cast<std::uint8_t>(*text));
  for (;;) asm volatile("hlt");
}

// ---- what the program asks for ----

std::int64_t write(std::uint64_t from, std::uint64_t bytes) {
  for (std::uint64_t i = 0; i < bytes; ++i) print(reinterpret_cast<const char*>(from)[i]);
  return static_cast<std::int64_t>(bytes);
}

std::int64_t write_parts(std::uint64_t parts, std::uint64_t count) {
  const auto* pairs = reinterpret_cast<const std::uint64_t*>(parts);  // of address and size
  std::int64_t written = 0;
  for (std::uint64_t i = 0; i < count; ++i) written += write(pairs[2 * i], pairs[2 * i + 1]);
  return written;
}

/// Every file is a terminal.
std::int64_t describe_file(std::uint64_t to) {
  clear(to, 144);
  *reinterpret_cast<std::uint32_t*>(to + 24) = 0020620;  // st_mode
  return 0;
}

std::int64_t move_heap_end(std::uint64_t to) {
  if (to >= heap_end && to < kStackTop - kStackBytes) {
    clear(heap_end, to - heap_end);
    heap_end = to;
  }
  return static_cast<std::int64_t>(heap_end);
}

/// Memory of no file; never given back.
std::int64_t map(std::uint64_t bytes, std::uint64_t flags) {
  constexpr std::uint64_t kAnonymous = 0x20;
  const std::uint64_t rounded = (bytes + kPage - 1) / kPage * kPage;
  if ((flags & kAnonymous) == 0 || rounded > kMapEnd - map_end) return kNoMemory;
  const std::uint64_t begin = map_end;
  map_end += rounded;
  clear(begin, rounded);
  return static_cast<std::int64_t>(begin);
}

std::int64_t set_thread_pointer(std::uint64_t code, std::uint64_t address) {
  constexpr std::uint64_t kSetFs = 0x1002;
  if (code != kSetFs) return kInvalid;
  asm volatile("wrmsr"
               :
               : "c"(0xc0000100), "a"(static_cast<std::uint32_t>(address)),
                 "d"(static_cast<std::uint32_t>(address >> 32)));
  return 0;
}

std::int64_t tell_time(std::uint64_t to) {
  clear(to, 16);
  return 0;
}

}  // namespace

extern "C" std::int64_t serve(std::uint64_t a, std::uint64_t b, std::uint64_t c, std::uint64_t d, std::uint64_t,
                              std::uint64_t number) {
  switch (number) {
    case 1: return write(b, c);
    case 5: return describe_file(b);
    case 9: return map(b, d);
    case 12: return move_heap_end(a);
    case 16: return kNoTerminal;  // ioctl
    case 20: return write_parts(b, c);
    case 60:
    case 231: end(static_cast<int>(a & 0xff));
    case 158: return set_thread_pointer(a, b);
    case 218: return 1;  // set_tid_address
    case 228: return tell_time(b);
    case 262: return describe_file(c);
    case 10:   // mprotect
    case 11:   // munmap
    case 13:   // rt_sigaction
    case 14:   // rt_sigprocmask
    case 28:   // madvise
    case 202:  // futex
    case 273:  // set_robust_list
      return 0;
    default: return kNoSuchCall;
  }
}

namespace {

const Elf64_Ehdr& load_program() {
  const std::uint64_t sectors = (arguments.program_bytes + 511) / 512;
  for (std::uint64_t i = 0; i < sectors; ++i) {
    read_sector(kFirstProgramSector + static_cast<std::uint32_t>(i), kProgramFile + i * 512);
  }
  const auto& header = *reinterpret_cast<const Elf64_Ehdr*>(kProgramFile);
  const auto* segments = reinterpret_cast<const Elf64_Phdr*>(kProgramFile + header.e_phoff);
  for (int i = 0; i < header.e_phnum; ++i) {
    if (segments[i].p_type != PT_LOAD) continue;
    copy(segments[i].p_vaddr, kProgramFile + segments[i].p_offset, segments[i].p_filesz);
    clear(segments[i].p_vaddr + segments[i].p_filesz, segments[i].p_memsz - segments[i].p_filesz);
    const std::uint64_t last = segments[i].p_vaddr + segments[i].p_memsz;
    if (last > heap_end) heap_end = (last + kPage - 1) / kPage * kPage;
  }
  return header;
}

/// Appends the addresses of strings up to an empty one, then 0; returns what follows.
const char* list_strings(const char* text, std::uint64_t*& at) {
  while (*text != '\0') {
    *at++ = reinterpret_cast<std::uint64_t>(text);
    while (*text++ != '\0') {
    }
  }
  *at++ = 0;
  return text + 1;
}

/// Argument count, arguments, environment and auxiliary vector, as the System V ABI has them. Returns the stack.
std::uint64_t prepare_stack(const Elf64_Ehdr& header) {
  const std::uint64_t stack = kStackTop - kPage;
  auto* at = reinterpret_cast<std::uint64_t*>(stack) + 1;
  const char* environment = list_strings(arguments.strings, at);
  *reinterpret_cast<std::uint64_t*>(stack) = (reinterpret_cast<std::uint64_t>(at) - stack) / 8 - 2;
  list_strings(environment, at);
  const std::uint64_t auxiliary[][2] = {{AT_PHDR, kProgramFile + header.e_phoff},
                                        {AT_PHENT, header.e_phentsize},
                                        {AT_PHNUM, header.e_phnum},
                                        {AT_PAGESZ, kPage},
                                        {AT_ENTRY, header.e_entry},
                                        {AT_RANDOM, reinterpret_cast<std::uint64_t>(&arguments)},
                                        {AT_NULL, 0}};
  for (const auto& pair : auxiliary) {
    *at++ = pair[0];
    *at++ = pair[1];
  }
  return stack;
}

}  // namespace

extern "C" [[noreturn]] void run_program() {
  out(0x37a, 0x0c);
  const Elf64_Ehdr& header = load_program();
  enter_program(header.e_entry, prepare_stack(header));
}
