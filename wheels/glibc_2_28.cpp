// What glibc has from 2.29 on and a statically linked C++ runtime asks for, so that a program built on a newer system
// loads where glibc is 2.28. Hidden: only the program that this is linked into sees it. No part of the package; build.py
// beside it compiles it.
#include <cstdint>
#include <cstdlib>
#include <dlfcn.h>
#include <link.h>
#include <unistd.h>

#define HIDDEN __attribute__((visibility("hidden")))

extern "C" {

// glibc 2.32: whether references may be counted without atomic instructions. Never.
HIDDEN extern char __libc_single_threaded;
char __libc_single_threaded = 0;

// glibc 2.36: a random number, for std::random_device, which the network does not use.
HIDDEN uint32_t arc4random() {
    uint32_t number;
    if (getentropy(&number, sizeof number)) std::abort();
    return number;
}
}

#ifdef DLFO_STRUCT_HAS_EH_DBASE
// glibc 2.35: where the library that holds an address keeps what unwinding an exception needs.
struct Search {
    ElfW(Addr) address;
    dl_find_object* found;
};

static int look(dl_phdr_info* info, size_t, void* data) {
    const Search& search = *static_cast<Search*>(data);
    bool inside = false;
    void* frames = nullptr;
    for (int i = 0; i < info->dlpi_phnum; ++i) {
        const ElfW(Phdr)& segment = info->dlpi_phdr[i];
        const ElfW(Addr) start = info->dlpi_addr + segment.p_vaddr;
        if (segment.p_type == PT_GNU_EH_FRAME) frames = reinterpret_cast<void*>(start);
        if (segment.p_type != PT_LOAD || search.address - start >= segment.p_memsz) continue;
        inside = true;
        search.found->dlfo_map_start = reinterpret_cast<void*>(start);
        search.found->dlfo_map_end = reinterpret_cast<void*>(start + segment.p_memsz);
    }
    if (!inside || !frames) return 0;
    search.found->dlfo_flags = 0;
    search.found->dlfo_link_map = nullptr;
    search.found->dlfo_eh_frame = frames;
    return 1;
}

extern "C" HIDDEN int _dl_find_object(void* address, dl_find_object* found) noexcept {
    Search search{reinterpret_cast<ElfW(Addr)>(address), found};
    return dl_iterate_phdr(look, &search) ? 0 : -1;
}
#endif
