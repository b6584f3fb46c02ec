// SPDX-License-Identifier: Apache-2.0
#include "symbols.h"

#include <dlfcn.h>
#include <elf.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <vector>

namespace emulated {
namespace {

std::vector<std::string> lines_of(const std::string& command) {
  std::vector<std::string> lines;
  FILE* output = popen(command.c_str(), "r");
  if (output == nullptr) return lines;
  char buffer[4096];
  while (std::fgets(buffer, sizeof buffer, output) != nullptr) {
    std::string line = buffer;
    if (!line.empty() && line.back() == '\n') line.pop_back();
    lines.push_back(line);
  }
  pclose(output);
  return lines;
}

std::string file_of(const Dl_info& info) {
  const std::string name = info.dli_fname;
  if (name.find('/') != std::string::npos) return name;
  char path[4096];  // a program that was found on PATH
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path);
  return length > 0 ? std::string(path, static_cast<std::size_t>(length)) : name;
}

/// Pairs of lines, innermost first: a function, and where in it the address is.
std::vector<std::string> asked_of_addr2line(const void* address) {
  Dl_info info{};
  if (dladdr(address, &info) == 0 || info.dli_fname == nullptr) return {};
  const bool is_fixed = static_cast<const Elf64_Ehdr*>(info.dli_fbase)->e_type == ET_EXEC;
  const auto base = is_fixed ? 0 : reinterpret_cast<std::uintptr_t>(info.dli_fbase);
  char offset[32];
  std::snprintf(offset, sizeof offset, "0x%llx",
                static_cast<unsigned long long>(reinterpret_cast<std::uintptr_t>(address) - base));
  // What it complains about (a section it does not know) says nothing to the reader.
  return lines_of("addr2line -Cfise '" + file_of(info) + "' " + offset + " 2>/dev/null");
}

std::string hexadecimal(const void* address) {
  char text[32];
  std::snprintf(text, sizeof text, "%p", address);
  return text;
}

}  // namespace

std::string function_at(const void* function) {
  const std::vector<std::string> lines = asked_of_addr2line(function);
  return lines.empty() || lines[0] == "??" ? hexadecimal(function) : lines[0];
}

std::string line_before(const void* return_address) {
  const void* call = static_cast<const char*>(return_address) - 1;
  const std::vector<std::string> lines = asked_of_addr2line(call);
  if (lines.size() < 2 || lines[1].compare(0, 2, "??") == 0) return hexadecimal(call);
  std::string text;
  for (std::size_t i = 1; i < lines.size(); i += 2) {
    std::string line = lines[i].substr(0, lines[i].find(" (discriminator"));
    text += (i > 1 ? ", inlined at " : "") + line;
  }
  return text;
}

}  // namespace emulated
