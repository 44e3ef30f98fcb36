// A program of one network and one picture, for machines without Python: what test_neon.py runs under emulation.
//
//     embed_once PROGRAM.so NUMBERS WEIGHTS PICTURE HALF THREADS EMBEDDING ROWS >VECTOR
//
// The first three files and the picture's levels are raw numbers as native_backend.py hands them over; EMBEDDING and ROWS say how
// many numbers the vector and its rows have.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static void* content(const char* path, long* bytes) {
    FILE* file = fopen(path, "rb");
    if (!file) exit(2);
    fseek(file, 0, SEEK_END);
    *bytes = ftell(file);
    rewind(file);
    void* read = malloc(*bytes);
    if (!read || fread(read, 1, *bytes, file) != (size_t)*bytes) exit(2);
    fclose(file);
    return read;
}

int main(int argc, char** arguments) {
    if (argc != 9) return 2;
    void* program = dlopen(arguments[1], RTLD_NOW);
    if (!program) {
        fprintf(stderr, "%s\n", dlerror());
        return 3;
    }
    void* (*build)(const int*, const float*, long, int, char*, long);
    int (*embed)(void*, const unsigned char*, int, int, float*, float*);
    void (*destroy)(void*);
    *(void**)&build = dlsym(program, "build");
    *(void**)&embed = dlsym(program, "embed");
    *(void**)&destroy = dlsym(program, "destroy");
    long bytes, of_weights;
    char message[200] = "";
    const int* numbers = content(arguments[2], &bytes);
    const float* weights = content(arguments[3], &of_weights);
    const unsigned char* picture = content(arguments[4], &bytes);
    void* network = build(numbers, weights, of_weights / 4, atoi(arguments[5]), message, sizeof message);
    if (!network) {
        fprintf(stderr, "%s\n", message);
        return 4;
    }
    const long embedding = atol(arguments[7]), rows = atol(arguments[8]);
    float* vector = malloc(4 * (embedding + rows));
    if (!vector || embed(network, picture, 1, atoi(arguments[6]), vector, vector + embedding)) return 5;
    fwrite(vector, 4, embedding + rows, stdout);
    destroy(network);
    return 0;
}
