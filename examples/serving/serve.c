/* SPDX-License-Identifier: MIT
 *
 * Runs a SavedModel of tf_plr layers without Python, through TensorFlow's C API.
 *
 *   serve LIBRARY MODEL INPUT_OP OUTPUT_OP BATCH STEPS FEATURES <input >output
 *
 * LIBRARY is tf_plr/_native/tf_plr_ops.so; it registers the native op, which must happen before the
 * model is loaded. Reads BATCH * STEPS * FEATURES float32 numbers, raw, and writes the raw output.
 * README.md here says how to build it and where the names of the operations come from.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tensorflow/c/c_api.h"

static void check(TF_Status* status, const char* what) {
  if (TF_GetCode(status) == TF_OK) return;
  fprintf(stderr, "%s: %s\n", what, TF_Message(status));
  exit(1);
}

static TF_Output operation(TF_Graph* graph, const char* name) {
  TF_Output output = {TF_GraphOperationByName(graph, name), 0};
  if (output.oper == NULL) {
    fprintf(stderr, "the model has no operation %s\n", name);
    exit(1);
  }
  return output;
}

int main(int argc, char** argv) {
  if (argc != 8) {
    fprintf(stderr, "usage: %s LIBRARY MODEL INPUT_OP OUTPUT_OP BATCH STEPS FEATURES\n", argv[0]);
    return 2;
  }
  TF_Status* status = TF_NewStatus();
  TF_Library* library = TF_LoadLibrary(argv[1], status);
  check(status, argv[1]);

  const char* tags[] = {"serve"};
  TF_SessionOptions* options = TF_NewSessionOptions();
  TF_Graph* graph = TF_NewGraph();
  TF_Session* session =
      TF_LoadSessionFromSavedModel(options, NULL, argv[2], tags, 1, graph, NULL, status);
  check(status, argv[2]);

  const int64_t shape[] = {atoll(argv[5]), atoll(argv[6]), atoll(argv[7])};
  TF_Tensor* input =
      TF_AllocateTensor(TF_FLOAT, shape, 3, shape[0] * shape[1] * shape[2] * sizeof(float));
  const size_t bytes = TF_TensorByteSize(input);
  if (fread(TF_TensorData(input), 1, bytes, stdin) != bytes) {
    fprintf(stderr, "the input must have %zu bytes\n", bytes);
    return 1;
  }
  const TF_Output from = operation(graph, argv[3]), to = operation(graph, argv[4]);
  TF_Tensor* output = NULL;
  TF_SessionRun(session, NULL, &from, &input, 1, &to, &output, 1, NULL, 0, NULL, status);
  check(status, "run");
  fwrite(TF_TensorData(output), 1, TF_TensorByteSize(output), stdout);

  TF_DeleteTensor(input);
  TF_DeleteTensor(output);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteGraph(graph);
  TF_DeleteSessionOptions(options);
  TF_DeleteLibraryHandle(library);
  TF_DeleteStatus(status);
  return 0;
}
