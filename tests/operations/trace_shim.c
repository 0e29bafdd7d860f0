/* Writes down, in TRACE_SHIM_LOG, what a process does to the files below TRACE_SHIM_ROOT, in the order it is done:
   data written, files cut, synced and unlinked, and what a folder held when it was synced.
   Each record: one letter, the inode, an offset and a length, 3 x 8 bytes, then as many bytes as the length says. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_file = -1;
static const char *root;
static ssize_t (*true_write)(int, const void *, size_t);
static ssize_t (*true_pwrite)(int, const void *, size_t, off_t);
static int (*true_fsync)(int), (*true_fdatasync)(int), (*true_ftruncate)(int, off_t), (*true_unlink)(const char *);

__attribute__((constructor)) static void begin(void) {
    true_write = dlsym(RTLD_NEXT, "write");
    true_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    true_fsync = dlsym(RTLD_NEXT, "fsync");
    true_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    true_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    true_unlink = dlsym(RTLD_NEXT, "unlink");
    root = getenv("TRACE_SHIM_ROOT");
    const char *path = getenv("TRACE_SHIM_LOG");
    if (root && path) log_file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int is_ours(int file, struct stat *about) {
    char name[32], path[4096];
    if (log_file < 0 || file == log_file || fstat(file, about)) return 0;
    if (!S_ISREG(about->st_mode) && !S_ISDIR(about->st_mode)) return 0;
    snprintf(name, sizeof name, "/proc/self/fd/%d", file);
    ssize_t length = readlink(name, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return !strncmp(path, root, strlen(root));
}

static void put(const void *data, size_t length) {
    while (length) {
        ssize_t done = true_write(log_file, data, length);
        if (done <= 0) abort();
        data = (const char *)data + done;
        length -= done;
    }
}

static void note(char what, uint64_t inode, uint64_t offset, uint64_t length, const void *data) {
    uint64_t numbers[3] = {inode, offset, length};
    put(&what, 1);
    put(numbers, sizeof numbers);
    put(data, length);
}

static void note_folder(int file, uint64_t inode) {
    static char names[1 << 20];
    size_t used = 0;
    DIR *folder = fdopendir(openat(file, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder) return;
    for (struct dirent *each; (each = readdir(folder)) && used < sizeof names - 512;)
        if (strcmp(each->d_name, ".") && strcmp(each->d_name, ".."))
            used += snprintf(names + used, 512, "%llu %s\n", (unsigned long long)each->d_ino, each->d_name);
    closedir(folder);
    note('D', inode, 0, used, names);
}

ssize_t write(int file, const void *data, size_t length) {
    struct stat about;
    if (!is_ours(file, &about)) return true_write(file, data, length);
    pthread_mutex_lock(&lock);
    int appends = fcntl(file, F_GETFL) & O_APPEND;
    off_t offset = appends ? about.st_size : lseek(file, 0, SEEK_CUR);
    ssize_t done = true_write(file, data, length);
    if (done > 0) note('W', about.st_ino, offset, done, data);
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t pwrite64(int file, const void *data, size_t length, off_t offset) {
    struct stat about;
    if (!is_ours(file, &about)) return true_pwrite(file, data, length, offset);
    pthread_mutex_lock(&lock);
    ssize_t done = true_pwrite(file, data, length, offset);
    if (done > 0) note('W', about.st_ino, offset, done, data);
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t pwrite(int file, const void *data, size_t length, off_t offset) { return pwrite64(file, data, length, offset); }

int ftruncate64(int file, off_t length) {
    struct stat about;
    if (!is_ours(file, &about)) return true_ftruncate(file, length);
    pthread_mutex_lock(&lock);
    int result = true_ftruncate(file, length);
    if (!result) note('T', about.st_ino, length, 0, "");
    pthread_mutex_unlock(&lock);
    return result;
}

int ftruncate(int file, off_t length) { return ftruncate64(file, length); }

static int sync_file(int file, int (*sync)(int)) {
    struct stat about;
    if (!is_ours(file, &about)) return sync(file);
    pthread_mutex_lock(&lock);
    /* What reaches the disk during the call may or may not be on it; what was there before, is. */
    if (S_ISDIR(about.st_mode)) note_folder(file, about.st_ino);
    else note('S', about.st_ino, 0, 0, "");
    pthread_mutex_unlock(&lock);
    return 0;
}

int fsync(int file) { return sync_file(file, true_fsync); }
int fdatasync(int file) { return sync_file(file, true_fdatasync); }

int unlink(const char *path) {
    struct stat about;
    if (log_file < 0 || stat(path, &about) || about.st_nlink > 1) return true_unlink(path);
    pthread_mutex_lock(&lock);
    int result = true_unlink(path);
    if (!result) note('U', about.st_ino, 0, 0, "");
    pthread_mutex_unlock(&lock);
    return result;
}
