// SPDX-License-Identifier: Apache-2.0
#include "sys/files.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <memory>

#include "sys/fd.h"

namespace procguard::sys {

namespace {

struct CloseDirectory {
  void operator()(DIR* stream) const { ::closedir(stream); }
};

}  // namespace

Result<std::string> read_file(const std::string& path, int dir) {
  const Fd fd(::openat(dir, path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) {
    return Error::system("opening " + path, errno);
  }
  std::string text(4096, '\0');  // kernel files say nothing of their size; most fit
  std::size_t have = 0;
  for (;;) {
    if (have == text.size()) {
      text.resize(have * 2);
    }
    const ssize_t got = ::read(fd.get(), text.data() + have, text.size() - have);
    if (got < 0) {
      if (errno == EINTR) {
        continue;
      }
      return Error::system("reading " + path, errno);
    }
    have += static_cast<std::size_t>(got);
    if (got == 0) {
      text.resize(have);
      return text;
    }
    if (have > kMaxFileBytes) {
      return Error::system("reading " + path, EFBIG);
    }
  }
}

Result<void> write_file(const std::string& path, std::string_view text, int dir) {
  const Fd fd(::openat(dir, path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd) {
    return Error::system("opening " + path, errno);
  }
  ssize_t written = 0;
  do {
    written = ::write(fd.get(), text.data(), text.size());
  } while (written < 0 && errno == EINTR);
  if (written < 0) {
    return Error::system("writing to " + path, errno);
  }
  if (static_cast<std::size_t>(written) != text.size()) {
    return Error::system("writing to " + path, EIO);
  }
  return {};
}

Result<std::vector<std::string>> list_directory(const std::string& path, int dir,
                                                bool directories_only) {
  Fd fd(::openat(dir, path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) {
    return Error::system("opening " + path, errno);
  }
  const std::unique_ptr<DIR, CloseDirectory> stream(::fdopendir(fd.get()));
  if (!stream) {
    return Error::system("listing " + path, errno);
  }
  fd.release();  // the stream closes it
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(stream.get());
    if (entry == nullptr) {
      if (errno != 0) {
        return Error::system("listing " + path, errno);
      }
      return names;
    }
    const std::string name(static_cast<const char*>(entry->d_name));
    if (name == "." || name == "..") {
      continue;
    }
    if (!directories_only || entry->d_type == DT_DIR) {
      names.push_back(name);
    }
  }
}

Result<std::string> read_link(const std::string& path) {
  std::string target(PATH_MAX, '\0');
  const ssize_t length = ::readlink(path.c_str(), target.data(), target.size());
  if (length < 0) {
    return Error::system("reading the link " + path, errno);
  }
  target.resize(static_cast<std::size_t>(length));
  return target;
}

}  // namespace procguard::sys
