# SPDX-License-Identifier: Apache-2.0
import numpy as np
import tokendraw as td
from tests.cuda.emulated import DeviceArray, ExchangedArray


def test_x(cuda):
    x = ExchangedArray(np.zeros((3, 10), np.float32))
    t = td.sample(x, seed=1)
    print(type(t), t.numpy(), t.shape)
    print(td.draw(x, seed=1).valid.numpy())
