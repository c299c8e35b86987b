#include "base/file.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "base/scratch_folder.h"

namespace switchyard {
namespace {

std::string text_of(const MappedFile& file) { return std::string(file.text()); }

TEST(MappedFileTest, ShowsTheBytes) {
  const ScratchFolder folder;
  write_file_atomically(folder / "a", "tokens");
  const MappedFile file(folder / "a");
  EXPECT_EQ(text_of(file), "tokens");
  EXPECT_EQ(file.size(), 6u);
}

TEST(MappedFileTest, AnEmptyFileIsEmpty) {
  const ScratchFolder folder;
  write_file_atomically(folder / "a", "");
  const MappedFile file(folder / "a");
  EXPECT_EQ(file.size(), 0u);
  EXPECT_EQ(file.data(), nullptr);
}

TEST(MappedFileTest, MovesKeepTheMapping) {
  const ScratchFolder folder;
  write_file_atomically(folder / "a", "aaa");
  write_file_atomically(folder / "b", "b");
  MappedFile a(folder / "a");
  MappedFile b = std::move(a);
  EXPECT_EQ(text_of(b), "aaa");
  b = MappedFile(folder / "b");
  EXPECT_EQ(text_of(b), "b");
}

TEST(MappedFileTest, SaysWhichFileIsMissing) {
  const ScratchFolder folder;
  const std::string path = folder / "nothing";
  EXPECT_EQ(message_of<DataError>([&] { MappedFile file(path); }),
            "cannot open " + path + ": No such file or directory");
}

TEST(MappedFileTest, RefusesWhatIsNoRegularFile) {
  const ScratchFolder folder;
  EXPECT_NE(message_of<DataError>([&] { MappedFile file(folder.path()); }).find("regular file"),
            std::string::npos);
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0600), 0);
  EXPECT_THROW(FileReader(folder / "fifo"), DataError);
}

TEST(FileReaderTest, RefusesLinksWhenAskedTo) {
  const ScratchFolder folder;
  write_file_atomically(folder / "a", "tokens");
  std::filesystem::create_symlink("a", folder / "link");
  EXPECT_EQ(FileReader(folder / "link").size(), 6u);
  EXPECT_THROW(FileReader(folder / "link", Symlinks::kRefuse), DataError);
}

TEST(FileReaderTest, ReadsExactlyOrNotAtAll) {
  const ScratchFolder folder;
  write_file_atomically(folder / "a", "0123456789");
  std::byte bytes[4];
  pread_exact(folder / "a", 6, bytes);
  EXPECT_EQ(std::memcmp(bytes, "6789", 4), 0);
  const std::string message = message_of<DataError>([&] { pread_exact(folder / "a", 7, bytes); });
  EXPECT_NE(message.find("ends at byte 10, 1 bytes short"), std::string::npos) << message;
}

TEST(FileReaderTest, ReadFileHasALimit) {
  const ScratchFolder folder;
  write_file_atomically(folder / "a", "0123456789");
  EXPECT_EQ(read_file(folder / "a"), "0123456789");
  EXPECT_THROW(read_file(folder / "a", 9), DataError);
}

TEST(WriteFileAtomicallyTest, ReplacesAndLeavesNothingElse) {
  const ScratchFolder folder;
  write_file_atomically(folder / "a", "old");
  write_file_atomically(folder / "a", "new");
  EXPECT_EQ(read_file(folder / "a"), "new");
  EXPECT_EQ(list_folder(folder.path()), std::vector<std::string>{"a"});
}

TEST(WriteFileAtomicallyTest, AFailureLeavesTheOldBytes) {
  const ScratchFolder folder;
  std::filesystem::create_directory(folder / "taken");
  EXPECT_THROW(write_file_atomically(folder / "taken", "new"), DataError);
  EXPECT_EQ(list_folder(folder.path()), std::vector<std::string>{"taken"});
  EXPECT_THROW(write_file_atomically(folder / "no/such/folder", "new"), DataError);
}

/// Lets this process write files of at most so many bytes.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    ::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_;
};

TEST(WriteFileAtomicallyTest, AFullDiskLeavesTheOldBytes) {
  const ScratchFolder folder;
  write_file_atomically(folder / "a", "old");
  const FileSizeLimit limit(4096);
  const std::string message =
      message_of<DataError>([&] { write_file_atomically(folder / "a", std::string(10000, 'x')); });
  EXPECT_NE(message.find("bytes to"), std::string::npos) << message;
  EXPECT_EQ(read_file(folder / "a"), "old");
  EXPECT_EQ(list_folder(folder.path()), std::vector<std::string>{"a"});
}

TEST(FileWriterTest, KnowsItsPositionAcrossTheBuffer) {
  const ScratchFolder folder;
  const std::string large(3 << 20, 'x');
  FileWriter file(folder / "a");
  file.append("ab");
  EXPECT_EQ(file.position(), 2u);
  file.append(large);
  file.append("cd");
  EXPECT_EQ(file.position(), large.size() + 4);
  file.fsync();
  file.close();
  EXPECT_EQ(read_file(folder / "a"), "ab" + large + "cd");
}

TEST(FileWriterTest, AppendGoesOnAtTheEnd) {
  const ScratchFolder folder;
  write_file_atomically(folder / "a", "one\n");
  FileWriter file(folder / "a", OpenMode::kAppend);
  EXPECT_EQ(file.position(), 4u);
  file.append("two\n");
  file.flush();
  EXPECT_EQ(read_file(folder / "a"), "one\ntwo\n");
}

TEST(FileWriterTest, CreateNewRefusesWhatIsThere) {
  const ScratchFolder folder;
  write_file_atomically(folder / "a", "");
  EXPECT_THROW(FileWriter(folder / "a", OpenMode::kCreateNew), DataError);
}

TEST(FileWriterTest, AFullDeviceIsNoticed) {
  FileWriter file("/dev/full");
  file.append("x");
  const std::string message = message_of<DataError>([&] { file.close(); });
  EXPECT_NE(message.find("No space left on device"), std::string::npos) << message;
  EXPECT_NE(message.find("bytes free"), std::string::npos) << message;
}

TEST(FileTest, FoldersAreMadeListedSwappedAndRemoved) {
  const ScratchFolder folder;
  make_folders(folder / "a/b");
  make_folders(folder / "a/b");
  make_folder(folder / "a/c");
  EXPECT_THROW(make_folder(folder / "a/c"), DataError);
  EXPECT_EQ(list_folder(folder / "a"), (std::vector<std::string>{"b", "c"}));
  EXPECT_THROW(list_folder(folder / "nothing"), DataError);

  write_file_atomically(folder / "a/b/mark", "b");
  EXPECT_TRUE(swap_in_folder(folder / "a/c", folder / "a/b"));
  EXPECT_EQ(read_file(folder / "a/c/mark"), "b");
  EXPECT_FALSE(swap_in_folder(folder / "a/c", folder / "a/d"));
  EXPECT_EQ(list_folder(folder / "a"), (std::vector<std::string>{"b", "d"}));

  remove_tree(folder / "a");
  remove_tree(folder / "a");
  EXPECT_TRUE(list_folder(folder.path()).empty());
}

TEST(FileTest, MakeFoldersRefusesAFile) {
  const ScratchFolder folder;
  write_file_atomically(folder / "a", "");
  EXPECT_THROW(make_folders(folder / "a"), DataError);
}

TEST(FileTest, FolderOfAPath) {
  EXPECT_EQ(folder_of("a"), ".");
  EXPECT_EQ(folder_of("/a"), "/");
  EXPECT_EQ(folder_of("x/y/a"), "x/y");
}

TEST(FileTest, PlainNamesStayInTheirFolder) {
  for (const char* name : {"rank-00000.safetensors", "config.yaml", "a", "..a"}) {
    EXPECT_TRUE(is_plain_name(name)) << name;
  }
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".."), std::string("a/b"), std::string("/a"),
        std::string("../a"), std::string("a\\b"), std::string("a b"), std::string("a\0b", 3),
        std::string(129, 'a')}) {
    EXPECT_FALSE(is_plain_name(name)) << name;
  }
}

}  // namespace
}  // namespace switchyard
